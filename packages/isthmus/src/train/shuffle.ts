import { createRandom } from '../link-bench/random.js';

/** What random numbers are drawn for: each purpose has its own, whatever the others draw. */
const purposes = ['split', 'order', 'step', 'weights'] as const;

/** Random numbers that follow from a seed, a purpose and a number alone: so that training can go on anywhere. */
export function randomFor(seed: number, purpose: (typeof purposes)[number], index: number = 0): () => number {
  const mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
  return createRandom(mixed ^ Math.imul(purposes.indexOf(purpose) + 1, 0x27d4eb2f));
}

/** A copy in random order (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

/**
 * The item at a place of an endless sequence that has every item once before it has any twice, each time in another
 * order.
 */
export function createOrder<T>(items: readonly T[], seed: number): (at: number) => T {
  let epoch = -1;
  let order: T[] = [];
  return (at) => {
    const wanted = Math.floor(at / items.length);
    if (wanted !== epoch) {
      epoch = wanted;
      order = shuffled(items, randomFor(seed, 'order', epoch));
    }
    return order[at % items.length] as T;
  };
}
