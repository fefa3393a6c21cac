#!/usr/bin/env node
import { main } from './cli.js';

const controller = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => controller.abort(name));
}
// A reader that goes away (`isthmus run … | head`) is no reason to crash.
process.stdout.on('error', () => process.exit(1));

process.exitCode = await main(process.argv.slice(2), {
  out: (text) => process.stdout.write(`${text}\n`),
  note: (text) => process.stderr.write(`${text}\n`),
  env: process.env,
  signal: controller.signal,
});
