import type { Runtime } from '@isthmus/core';
import { plainBatch } from './batches.js';
import { type LabelledPictures, numClasses } from './data.js';

/** The share of the first `count` pictures that a model of one picture gives its label. */
export async function measureAccuracy(
  runtime: Runtime,
  model: Uint8Array,
  pictures: LabelledPictures,
  count: number,
): Promise<number> {
  const session = await runtime.load(model);
  let numRight = 0;
  try {
    for (let index = 0; index < count; index++) {
      const { outputs } = await session.run({ image: plainBatch(pictures, index, 1) });
      const logits = outputs.logits?.data as Float32Array;
      if (logits.length !== numClasses) throw new Error('The net does not give the logits of the classes.');
      if (logits.indexOf(Math.max(...logits)) === pictures.labels[index]) numRight++;
    }
  } finally {
    await session.release();
  }
  return numRight / count;
}
