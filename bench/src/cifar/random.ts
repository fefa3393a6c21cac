/** What random numbers are drawn for: each purpose has its own, whatever the others draw. */
const purposes = ['weights', 'order', 'flips', 'crops', 'patches'] as const;

/** Numbers in [0, 1) that follow from a seed, a purpose and a number alone, so that training can go on anywhere. */
export function randomFor(seed: number, purpose: (typeof purposes)[number], index: number = 0): () => number {
  const mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(index + 1, 0xc2b2ae35);
  // mulberry32 (public domain, Tommy Ettinger)
  let state = mixed ^ Math.imul(purposes.indexOf(purpose) + 1, 0x27d4eb2f);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 15), 1 | state);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return ((word ^ (word >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The numbers below `count` in random order (Fisher and Yates). */
export function shuffledIndices(count: number, random: () => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let at = count - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  return order;
}
