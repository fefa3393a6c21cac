// A receiver in a process of its own, for tests that look at its memory: node --expose-gc receiver-process.js FOLDER LIMITS
import { createReceiver } from '@isthmus/cloud';
import { createNodeRuntime } from '@isthmus/runtime/node';

const [folder, limits] = process.argv.slice(2);
const receiver = await createReceiver({
  bundles: [folder],
  limits: JSON.parse(limits),
  runtime: createNodeRuntime({ threads: 1 }),
});
const { url } = await receiver.listen(0);
process.on('message', () => {
  globalThis.gc();
  process.send({ residentBytes: process.memoryUsage.rss(), stats: receiver.stats() });
});
process.on('disconnect', () => process.exit());
process.send({ url });
