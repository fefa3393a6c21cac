import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BaseOptions, trainBase } from '../bench/src/cifar/base-loop.js';
import { type Batch, createBatches, normalize } from '../bench/src/cifar/batches.js';
import { type LabelledPictures, pictureBytes } from '../bench/src/cifar/data.js';
import { fitWhitening } from '../bench/src/cifar/whitening.js';

// What trains the base model of `npm run bench -- cifar`.

const numPictures = 60;
const planeSize = 32 * 32;

/** Pictures by what their pixels are. */
function pictures(
  count: number,
  value: (picture: number, x: number, y: number, channel: number) => number,
): LabelledPictures {
  const pixels = Uint8Array.from({ length: count * pictureBytes }, (_, index) => {
    const place = Math.floor((index % pictureBytes) / 3);
    return value(Math.floor(index / pictureBytes), place % 32, Math.floor(place / 32), index % 3);
  });
  return { pixels, labels: Uint8Array.from({ length: count }, (_, index) => index % 10) };
}

// Thousands of numbers are compared so at once.
const bytesOf = ({ x, targets }: Batch): Buffer =>
  Buffer.concat([x, targets].map(({ data }) => new Uint8Array(data.buffer)));

const options = { batch: 20, seed: 5, numPictures, smoothing: 0.1 };

describe('batches', () => {
  // A picture of one colour is the same wherever it is cut out.
  const plain = pictures(numPictures, (picture) => 4 * picture);

  test('have every picture once an epoch, in another order, with its own label', () => {
    const { at, stepsPerEpoch } = createBatches(plain, options);
    expect(stepsPerEpoch).toBe(3);
    const orders = [0, 1].map((epoch) =>
      [0, 1, 2].flatMap((index) => {
        const { x, targets } = at(epoch * stepsPerEpoch + index);
        return Array.from({ length: 20 }, (_, row) => {
          const picture = Math.round((x.data[row * pictureBytes]! * 127.5 + 127.5) / 4);
          const own = targets.data.subarray(row * 10, (row + 1) * 10);
          own.forEach((target, label) => {
            expect(target).toBeCloseTo(label === picture % 10 ? 0.91 : 0.01, 6);
          });
          return picture;
        });
      }),
    );
    const all = Array.from({ length: numPictures }, (_, index) => index);
    for (const order of orders) expect(order.toSorted((a, b) => a - b)).toEqual(all);
    expect(orders[0]).not.toEqual(orders[1]);
  });

  test('follow from the number of their step alone', () => {
    const noisy = pictures(
      numPictures,
      (picture, x, y, channel) => (picture * 7 + x * 31 + y * 17 + channel) % 256,
    );
    const inOrder = createBatches(noisy, options);
    const expected = Array.from({ length: 9 }, (_, step) => inOrder.at(step));
    fc.assert(
      fc.property(fc.array(fc.nat(8), { minLength: 1, maxLength: 12 }), (steps) => {
        const { at } = createBatches(noisy, options);
        for (const step of steps) expect(bytesOf(at(step)).equals(bytesOf(expected[step]!))).toBe(true);
      }),
      { numRuns: 20 },
    );
    const other = createBatches(noisy, { ...options, seed: 6 }).at(0);
    expect(bytesOf(other).equals(bytesOf(expected[0]!))).toBe(false);
  });

  test('mirror a picture in every other epoch, and shift it by at most four pixels', () => {
    // Red says which picture it is, green how far right, blue how far down.
    const gradient = pictures(numPictures, (picture, x, y, channel) => [4 * picture, 8 * x, 8 * y][channel]!);
    const { at, stepsPerEpoch } = createBatches(gradient, options);
    const byte = (value: number): number => value * 127.5 + 127.5;
    const shifts = new Set<number>();
    const directions = [0, 1, 2].map((epoch) => {
      const found = new Map<number, number>();
      for (let index = 0; index < stepsPerEpoch; index++) {
        const { x } = at(epoch * stepsPerEpoch + index);
        for (let row = 0; row < 20; row++) {
          const pixel = (channel: number, left: number, top: number): number =>
            byte(x.data[row * pictureBytes + channel * planeSize + top * 32 + left]!);
          found.set(Math.round(pixel(0, 0, 0) / 4), Math.sign(pixel(1, 20, 16) - pixel(1, 10, 16)));
          const down = Math.round(pixel(2, 16, 16) / 8) - 16;
          const right = Math.round(pixel(1, 16, 16) / 8);
          shifts.add(down);
          expect(Math.abs(down)).toBeLessThanOrEqual(4);
          expect(right).toBeGreaterThanOrEqual(11);
          expect(right).toBeLessThanOrEqual(20);
        }
      }
      return found;
    });
    for (const [picture, direction] of directions[0]!) {
      expect(directions[1]!.get(picture)).toBe(-direction);
      expect(directions[2]!.get(picture)).toBe(direction);
    }
    expect(new Set(directions[0]!.values()).size).toBe(2);
    expect(shifts.size).toBeGreaterThan(5);
  });
});

/** Pictures of smooth waves with some noise: as real ones, neighbours are alike and the first components large. */
const waves = pictures(400, (picture, x, y, channel) => {
  const noise = ((picture * 2654435761 + x * 40503 + y * 9973 + channel * 7919) >>> 7) % 23;
  return Math.round(
    110 + 70 * Math.sin(x * (0.1 + (picture % 7) * 0.05) + y * (picture % 5) * 0.06 + channel) + noise,
  );
});

test('whitening gives components of variance 1 without correlation, and their negatives', () => {
  const numComponents = 6;
  const { weight, bias } = fitWhitening(waves, numComponents, 1);
  expect(weight.shape).toEqual([12, 3, 3, 3]);
  const outputs: number[][] = [];
  for (let picture = 0; picture < 400; picture++) {
    for (let place = 0; place < 30; place++) {
      const [left, top] = [(place * 7 + picture) % 30, (place * 11 + picture * 3) % 30];
      const patch = Array.from({ length: 27 }, (_, index) => {
        const [channel, y, x] = [Math.floor(index / 9), Math.floor(index / 3) % 3, index % 3];
        return normalize(waves.pixels[picture * pictureBytes + 3 * ((top + y) * 32 + left + x) + channel]!);
      });
      outputs.push(
        Array.from(bias.data, (offset, filter) =>
          patch.reduce((sum, value, index) => sum + value * weight.data[filter * 27 + index]!, offset),
        ),
      );
    }
  }
  for (let i = 0; i < numComponents; i++) {
    for (let j = 0; j <= i; j++) {
      const product = outputs.reduce((sum, output) => sum + output[i]! * output[j]!, 0) / outputs.length;
      expect(Math.abs(product - Number(i === j))).toBeLessThan(0.15);
    }
    for (const output of outputs.slice(0, 50)) expect(output[i + numComponents]).toBeCloseTo(-output[i]!, 4);
  }
});

test('training that was interrupted goes on to the same weights, bit for bit', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-cifar-'));
  const run = (name: string, signal: Pick<AbortSignal, 'aborted'>): ReturnType<typeof trainBase> => {
    const base: Omit<BaseOptions, 'folder' | 'signal'> = {
      ...{ epochs: 1, numPictures: 256, numTest: 4, peakRate: 0.005, seed: 3, threads: 1 },
      log: () => {},
    };
    const given = { ...base, folder: join(folder, name), signal: signal as AbortSignal };
    return trainBase({ training: waves, test: waves }, given);
  };
  try {
    const whole = await run('whole', { aborted: false });
    let asked = 0;
    // After the first of two steps.
    const soon = {
      get aborted(): boolean {
        return asked++ > 0;
      },
    };
    expect(await run('parts', soon)).toBeUndefined();
    const parts = await run('parts', { aborted: false });
    expect(parts?.step).toBe(2);
    expect(whole?.step).toBe(2);
    const [a, b] = await Promise.all(
      ['whole', 'parts'].map((name) => readFile(join(folder, name, 'state.safetensors'))),
    );
    expect(b?.equals(a!)).toBe(true);
    await expect(
      trainBase(
        { training: waves, test: waves },
        {
          ...{ folder: join(folder, 'whole'), epochs: 2, numPictures: 256, numTest: 4, peakRate: 0.005 },
          ...{ seed: 3, threads: 1, log: () => {}, signal: new AbortController().signal },
        },
      ),
    ).rejects.toThrow(/other settings/);
  } finally {
    await rm(folder, { recursive: true });
  }
}, 180_000);
