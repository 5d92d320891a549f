// What a newcomer sees: the server profiles itself, and the page at / shows a flame graph of it.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const freePort = () => new Promise((resolve, reject) => {
  const probe = createServer();
  probe.on('error', reject);
  probe.listen(0, '127.0.0.1', () => { const { port } = probe.address(); probe.close(() => resolve(port)); });
});

async function withServer(run) {
  const port = await freePort(), data = mkdtempSync(join(tmpdir(), 'scoria-ui-'));
  const log = [];
  const server = spawn(process.env.SCORIA_BIN, [
    'server', '--listen', `127.0.0.1:${port}`, '--data-dir', data, '--set', 'self_profiling.enabled=true',
  ], { stdio: ['ignore', 'pipe', 'pipe'] });
  server.stdout.on('data', d => log.push(d));
  server.stderr.on('data', d => log.push(d));
  const ended = new Promise(resolve => server.on('exit', resolve));
  try {
    await run(`http://127.0.0.1:${port}`);
  } catch (error) {
    console.error(Buffer.concat(log).toString().slice(-4000));
    throw error;
  } finally {
    server.kill('SIGTERM');
    await ended;
    rmSync(data, { recursive: true, force: true });
  }
}

async function untilReady(url) {
  for (let i = 0; i < 200; i++) {
    const up = await fetch(url + '/ready').then(r => r.ok, () => false);
    if (up) return;
    await new Promise(r => setTimeout(r, 50));
  }
  throw new Error('the server did not become ready in ten seconds');
}

// Counts how many colours the canvas shows: an empty one has a single one.
const colours = page => page.evaluate(() => {
  const canvas = document.getElementById('flame');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < pixels.length; i += 4) seen.add(pixels[i] << 16 | pixels[i + 1] << 8 | pixels[i + 2]);
  return seen.size;
});

test('a newcomer sees a flame graph within half a minute, can search it and zoom', { timeout: 120_000 }, async () => {
  await withServer(async url => {
    await untilReady(url);
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    try {
      const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
      const outside = [], broken = [];
      page.on('request', r => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) outside.push(r.url()); });
      page.on('pageerror', e => broken.push(String(e)));
      await page.goto(url + '/');

      await page.waitForFunction(() => document.querySelectorAll('#top tbody tr').length > 3, null, { timeout: 30_000 });
      assert.equal(await page.locator('#service').inputValue(), 'scoria');
      assert.match(await page.locator('#type').inputValue(), /cpu/);
      assert.ok(await colours(page) > 5, 'the flame graph is drawn');

      const rows = await page.locator('#top tbody tr').count();
      const name = await page.locator('#top tbody tr td').first().textContent();
      await page.locator('#search').fill(name);
      const found = await page.locator('#top tbody tr').count();
      assert.ok(found >= 1 && found <= rows, 'search narrows the table');
      assert.equal(await page.locator('#top tbody tr.hit').count(), found);
      await page.locator('#search').fill('no function is called like this');
      assert.equal(await page.locator('#top tbody tr').count(), 0);
      await page.locator('#search').fill('');

      const box = await page.locator('#flame').boundingBox();
      await page.mouse.move(box.x + 30, box.y + 18 * 2 + 9);
      assert.match(await page.locator('#tip').textContent(), /total .*%/);
      await page.mouse.click(box.x + 30, box.y + 18 * 2 + 9);
      assert.ok(await page.locator('#reset').isVisible(), 'a click zooms');
      await page.locator('#reset').click();
      assert.ok(await page.locator('#reset').isHidden(), 'and the button goes back');

      assert.deepEqual(outside, [], 'the page asks no other address');
      assert.deepEqual(broken, [], 'no script error');
      if (process.env.SCORIA_SCREENSHOT) await page.screenshot({ path: process.env.SCORIA_SCREENSHOT });
    } finally {
      await browser.close();
    }
  });
});
