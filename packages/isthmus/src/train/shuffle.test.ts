import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createOrder, randomFor } from './shuffle.js';

describe('the order of pictures', () => {
  it('has each once before any twice, and is the same wherever one looks first', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(), fc.array(fc.nat(200)), (count, seed, places) => {
        const items = Array.from({ length: count }, (_, index) => index);
        const [all, some] = [createOrder(items, seed), createOrder(items, seed)];
        const sequence = Array.from({ length: 201 + count }, (_, at) => all(at));
        for (let at = 0; at + count <= 200; at += count) {
          expect(sequence.slice(at, at + count).sort((a, b) => a - b)).toEqual(items);
        }
        for (const at of places) expect(some(at)).toBe(sequence[at]);
      }),
    );
  });

  it('is another in every epoch, and of every seed', () => {
    const items = Array.from({ length: 30 }, (_, index) => index);
    const epoch = (seed: number, number: number): number[] => {
      const order = createOrder(items, seed);
      return items.map((at) => order(number * items.length + at));
    };
    expect(epoch(1, 0)).not.toEqual(epoch(1, 1));
    expect(epoch(1, 0)).not.toEqual(epoch(2, 0));
  });

  it('draws other numbers for every purpose', () => {
    const drawn = (['split', 'order', 'step', 'weights'] as const).map((purpose) => randomFor(5, purpose)());
    expect(new Set(drawn).size).toBe(4);
  });
});
