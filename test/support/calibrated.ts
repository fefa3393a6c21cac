import { createTensor, type NamedTensors } from '@isthmus/core';
import { calibrateBundle } from '@isthmus/graph';
import { type Fixture, makeFixture, withBundle } from './fixture.js';

/** A {@link Fixture} with a calibrated codec at some of its cuts, and the frames it was fitted to. */
export interface CalibratedFixture extends Fixture {
  frames: NamedTensors[];
}

/** Fits `calibrated` to a dozen frames of waves, with few probes: in a second or two. */
export async function makeCalibratedFixture(cuts: readonly number[]): Promise<CalibratedFixture> {
  const plain = await makeFixture();
  const frames = Array.from({ length: 12 }, (_, frame) => {
    const values = Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => {
      const [channel, y, x] = [Math.floor(i / 1024), Math.floor(i / 32) % 32, i % 32];
      return (
        Math.sin((frame + 2) * 0.13 * x + channel) * Math.cos((frame % 5) * 0.2 * y) * (1 - 0.2 * channel)
      );
    });
    return { image: createTensor('float32', [1, 3, 32, 32], values) };
  });
  const bundle = await calibrateBundle(plain, {
    runtime: plain.runtime,
    frames,
    cuts: [...cuts],
    tuning: { numProbes: 16, numProbeFrames: 1, maxValues: 10_000 },
  });
  return { ...(await withBundle(plain, bundle)), frames };
}
