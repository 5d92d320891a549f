// Keeps one function busy under the Node SDK: busy.js SERVER_URL SERVICE SECONDS.
'use strict';

const Pyroscope = require('@pyroscope/nodejs');

const [server, service, seconds] = process.argv.slice(2);

function busyNode(rounds) {
  let total = 0;
  for (let n = 0; n < rounds; n += 1) {
    total = (total * 31 + n) % 1000003;
  }
  return total;
}

Pyroscope.init({
  appName: service,
  serverAddress: server,
  tags: { region: 'test' },
  // The default of a minute is longer than this program runs.
  flushIntervalMs: 5000,
  wall: { collectCpuTime: true },
});
function failed(error) {
  console.error(error);
  process.exit(1);
}

// The SDK begins a round that was due in the moment of its stop, and then finds itself stopped.
let stopping = false;
process.on('unhandledRejection', (error) => {
  if (!stopping || !String(error).includes('not started')) {
    failed(error);
  }
});
Pyroscope.start();

const end = Date.now() + Number(seconds) * 1000;
// In slices, so that the SDK's timers get their turn. Each is one long call: of many short ones the
// engine would make one with its caller.
(function slice() {
  busyNode(10000000);
  if (Date.now() < end) {
    setImmediate(slice);
  } else {
    stopping = true;
    Pyroscope.stop().then(() => process.exit(0), failed);
  }
})();
