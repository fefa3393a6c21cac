import { createTensor } from '@isthmus/core';
import type { CutTransform } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../testing/random.js';
import { loadModel } from '../testing/run.js';
import { encoderBranches } from './encoder-branch.js';
import { fitLanding } from './fit-landing.js';
import { landing } from './landing.js';
import { blockFor, landingGeometry, type Maps, mapsOf } from './landing-geometry.js';
import { exportCodec } from './networks.js';

const numFrames = 60;

/** Blocks of which every number is a component, for maps of 2 × 8 × 8. */
function identity(block: number): CutTransform {
  const size = 2 * block * block;
  const eye = Float64Array.from({ length: size * size }, (_, at) => (at % (size + 1) === 0 ? 1 : 0));
  return {
    tensor: { name: 'maps', type: 'float32', shape: [1, 2, 8, 8], batched: true, asInput: '', asOutput: '' },
    layout: { channels: 2, height: 8, width: 8, channelsLast: false, block },
    transform: {
      ...{ numComponents: size, isDiagonal: false, forward: eye, backward: eye },
      variances: new Float64Array(size).fill(1),
    },
    ...{ means: Float64Array.of(0, 0), low: undefined, high: undefined },
  };
}

function frames(): Float32Array[] {
  const random = seededRandom(2);
  return Array.from({ length: numFrames }, () =>
    Float32Array.from({ length: 128 }, () => 3.46 * (random() - 0.5)),
  );
}

/** Something that is linear in what lies around a position. */
function target(maps: Float32Array, { channels, height, width }: Maps): Float32Array {
  const ratio = 8 / height;
  return Float32Array.from({ length: channels * height * width }, (_, at) => {
    const [channel, y, x] = [Math.floor(at / (height * width)), Math.floor(at / width) % height, at % width];
    const [row, column] = [Math.floor(y * ratio), Math.floor(x * ratio)];
    const here = maps[row * 8 + column] ?? 0;
    const there = maps[64 + row * 8 + column] ?? 0;
    return 0.5 + (channel + 1) * here - 0.5 * there;
  });
}

describe('where a codec lands', () => {
  it.each([
    { block: 1, shape: [1, 3, 8, 8], geometry: { stride: 1, block: 1, kernel: 3 } },
    { block: 1, shape: [1, 3, 4, 4], geometry: { stride: 2, block: 1, kernel: 4 } },
    { block: 2, shape: [1, 3, 4, 4], geometry: { stride: 1, block: 1, kernel: 3 } },
    { block: 2, shape: [1, 3, 8, 8], geometry: { stride: 1, block: 2, kernel: 3 } },
  ])('is what is linear of the way there: blocks of $block to $shape', async ({ block, shape, geometry }) => {
    const start = identity(block);
    const numComponents = 2 * block * block;
    const maps = mapsOf(shape);
    const grid = { rows: 8 / block, columns: 8 / block };
    expect(landingGeometry(grid, maps)).toEqual(geometry);
    const given = { start, numComponents, random: seededRandom(1) };
    const pictures = frames();
    const output = { name: 'deep', shape };
    const options = { ...given, output, maps, geometry };
    const latentShape = [1, numComponents, grid.rows, grid.columns] as const;
    const latents = pictures.map((picture) => toBlocks(picture, block));
    const linear = fitLanding({
      ...{ latents, latentShape, maps, geometry },
      deviations: new Float64Array(numComponents).fill(1),
      targets: pictures.map((picture) => target(picture, maps)),
    });
    const architecture = landing({ ...options, linear, branch: encoderBranches.medium });
    expect(architecture.latentShape).toEqual(latentShape);
    const { encoder, decoder, encoderFlops } = exportCodec(architecture, new Map());
    expect(encoderFlops).toBeGreaterThan(0);
    const [encode, decode] = [await loadModel(encoder), await loadModel(decoder)];
    const picture = pictures[7] ?? new Float32Array();
    const { latent = new Float32Array() } = await encode({
      maps: createTensor('float32', [1, 2, 8, 8], picture as Float32Array<ArrayBuffer>),
    });
    const { deep = [] } = await decode({
      latent: createTensor('float32', latentShape, latent as Float32Array<ArrayBuffer>),
      level: createTensor('float32', [1], Float32Array.of(0.5)),
    });
    // But for the penalties, which stand for noise.
    target(picture, maps).forEach((value, at) => {
      expect(Math.abs((deep[at] ?? 0) - value)).toBeLessThan(0.15);
    });
  });

  it('keeps to what the cut can hold', () => {
    const maps = mapsOf([1, 1, 8, 8]);
    const latents = frames();
    const linear = fitLanding({
      ...{ latents, latentShape: [1, 2, 8, 8], deviations: [1, 1], maps },
      geometry: landingGeometry({ rows: 8, columns: 8 }, maps),
      targets: latents.map((values) => values.subarray(0, 64).map((x) => Math.min(6, Math.max(0, 9 * x)))),
    });
    expect([linear.low, linear.high]).toEqual([0, 6]);
  });

  it('is refused where grids do not fit, and takes blocks that do', () => {
    expect(() => landingGeometry({ rows: 8, columns: 8 }, { height: 5, width: 5 })).toThrow(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
    expect(() => landingGeometry({ rows: 28, columns: 28 }, { height: 1, width: 1 })).toThrow(/nearer/);
    expect(blockFor(mapsOf([1, 128, 28, 28]), mapsOf([1, 256, 14, 14]), 1024)).toBe(2);
    expect(blockFor(mapsOf([1, 512, 28, 28]), mapsOf([1, 1024, 14, 14]), 1024)).toBe(1);
    expect(blockFor(mapsOf([1, 3, 224, 224]), mapsOf([1, 128, 28, 28]), 1024)).toBe(8);
    expect(mapsOf([1, 49, 768])).toEqual({ channels: 768, height: 49, width: 1, channelsLast: true });
  });
});

// Channels, then rows, then columns of a block become components.
function toBlocks(picture: Float32Array, block: number): Float32Array {
  const edge = 8 / block;
  return Float32Array.from({ length: 128 }, (_, at) => {
    const [component, position] = [Math.floor(at / (edge * edge)), at % (edge * edge)];
    const channel = Math.floor(component / (block * block));
    const y = Math.floor(position / edge) * block + (Math.floor(component / block) % block);
    return picture[channel * 64 + y * 8 + (position % edge) * block + (component % block)] ?? 0;
  });
}
