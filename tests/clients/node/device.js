// A device's or module's client of azure-iot-device; its calls have the names of tests/wire/sdk_module.py.
'use strict';
const fs = require('fs');
const { promisify } = require('util');
const { Client, Message, ModuleClient, SharedAccessKeyAuthenticationProvider } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { serve, write } = require('./lines');

const options = JSON.parse(process.argv[2]);
const transport = options.websockets ? MqttWs : Mqtt;
let client;
let isModule = false;

function withShortTokens(connectionString) {
  const { sastoken_ttl: valid, renewal_margin: margin } = options;
  return SharedAccessKeyAuthenticationProvider.fromConnectionString(connectionString, valid, margin);
}

function received(message) {
  write('message', { data: message.data.toString('base64') });
  return client.complete(message);
}

function answerMethod(request, response) {
  write('method', { name: request.methodName, payload: request.payload });
  return response.send(207, { name: request.methodName, got: request.payload });
}

const listeners = {
  message: () => {
    client.on(isModule ? 'inputMessage' : 'message', (...event) => received(event[event.length - 1]));
  },
  method: () => (isModule ? client.onMethod('m', answerMethod) : client.onDeviceMethod('m', answerMethod)),
  patch: async () => {
    const twin = await client.getTwin();
    twin.on('properties.desired', (patch) => write('patch', { patch }));
  },
};

function listenForErrors() {
  client.on('error', () => {}); // without a listener Node ends the process
}

serve({
  create: async () => {
    isModule = true;
    client = await ModuleClient.fromEnvironment(transport);
    listenForErrors();
  },
  create_from: async ({ connection_string: connectionString, ca }) => {
    client = options.sastoken_ttl
      ? Client.fromAuthenticationProvider(withShortTokens(connectionString), transport)
      : Client.fromConnectionString(connectionString, transport);
    listenForErrors();
    await client.setOptions({ ca: fs.readFileSync(ca, 'utf8') });
  },
  connect: async () => {
    await client.open();
    return true;
  },
  send: async ({ output, body, properties }) => {
    const message = new Message(Buffer.from(body, 'base64'));
    Object.entries(properties).forEach(([name, value]) => message.properties.add(name, value));
    await (output === null ? client.sendEvent(message) : client.sendOutputEvent(output, message));
  },
  listen: ({ kind }) => listeners[kind](),
  get_twin: async () => {
    const { desired, reported } = (await client.getTwin()).properties;
    return { desired, reported };
  },
  report: async ({ patch }) => {
    const { reported } = (await client.getTwin()).properties;
    await promisify(reported.update)(patch);
  },
  shutdown: async () => {
    await client.close();
    process.exit(0);
  },
});
