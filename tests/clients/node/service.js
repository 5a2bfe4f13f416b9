// A service's client of azure-iothub: registry, twins and methods over HTTPS, messages to devices over AMQP.
'use strict';
const { Client, Registry, Amqp, AmqpWs } = require('azure-iothub');
const { Message } = require('azure-iot-device');
const { serve, write } = require('./lines');

const options = JSON.parse(process.argv[2]);
let client;
let registry;

serve({
  create_from: ({ connection_string: connectionString }) => {
    client = Client.fromConnectionString(connectionString, options.websockets ? AmqpWs : Amqp);
    registry = Registry.fromConnectionString(connectionString);
  },
  create_device: async ({ device }) => (await registry.create({ deviceId: device })).responseBody.deviceId,
  query: async ({ text }) => {
    const found = await registry.createQuery(text).nextAsTwin();
    return found.result.map((twin) => twin.deviceId);
  },
  get_twin: async ({ device }) => {
    const { tags, properties } = (await registry.getTwin(device)).responseBody;
    return { tags, properties };
  },
  update_twin: async ({ device, patch }) => {
    await registry.updateTwin(device, patch, '*');
  },
  invoke: async ({ device, params }) => (await client.invokeDeviceMethod(device, params)).result,
  connect: async () => {
    await client.open();
    return true;
  },
  send: async ({ device, body, id }) => {
    const message = new Message(body);
    message.messageId = id;
    message.ack = 'full';
    await client.send(device, message);
  },
  listen: async () => {
    const { result: receiver } = await client.getFeedbackReceiver();
    receiver.on('message', (records) => {
      write('message', { records: JSON.parse(records.data.toString()) });
      receiver.complete(records);
    });
  },
  shutdown: async () => {
    await client.close();
    process.exit(0);
  },
});
