// Calls as JSON lines on stdin, answers and events as JSON lines on stdout: the protocol of tests/wire/sdk_module.py.
'use strict';
const readline = require('readline');

const write = (kind, fields) => process.stdout.write(JSON.stringify({ kind, ...fields }) + '\n');

async function answer(calls, line) {
  const { call, ...rest } = JSON.parse(line);
  try {
    write('answer', { result: (await calls[call](rest)) ?? null });
  } catch (error) {
    write('answer', { error: error.constructor.name, cause: String(error.message) });
  }
}

function serve(calls) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on('line', (line) => answer(calls, line));
  lines.on('close', () => process.exit(1));
}

module.exports = { serve, write };
