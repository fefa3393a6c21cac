import { builtinCodecs, createTensor, type NamedTensors, systemClock } from '@isthmus/core';
import { measureLevels } from '@isthmus/graph';
import { type Fixture, makeFixture, withBundle } from './fixture.js';

/** A {@link Fixture} whose manifest knows bytes, quality and times of every level, measured on frames of waves. */
export async function makeMeasuredFixture(side: number): Promise<Fixture> {
  const plain = await makeFixture(side);
  const bundle = await measureLevels(plain, {
    runtime: plain.runtime,
    frames: Array.from({ length: 6 }, (_, index) => waves(side, index)),
    codecs: builtinCodecs,
    clock: systemClock,
  });
  return withBundle(plain, bundle);
}

function waves(side: number, seed: number): NamedTensors {
  const values = Float32Array.from({ length: 3 * side * side }, (_, i) => {
    const [x, y] = [i % side, Math.floor(i / side) % side];
    return Math.sin((seed + 2) * 0.13 * x + i / (side * side)) * Math.cos((seed % 5) * 0.2 * y);
  });
  return { image: createTensor('float32', [1, 3, side, side], values) };
}
