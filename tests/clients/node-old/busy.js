// Keeps one function busy under an older Node SDK: busy.js SERVER_URL SERVICE SECONDS.
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
Pyroscope.start();

const end = Date.now() + Number(seconds) * 1000;
// In slices, so that the SDK's timers get their turn. Each is one long call: of many short ones the
// engine would make one with its caller.
(function slice() {
  busyNode(10000000);
  if (Date.now() < end) {
    setImmediate(slice);
  } else {
    // Its stop() throws out of a timer. What it took is sent by its own clock.
    setTimeout(() => process.exit(0), 6000);
  }
})();
