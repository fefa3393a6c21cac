/** Numbers in [0, 1), the same every time (Lehmer's generator). */
export function seededRandom(seed: number): () => number {
  let state = (seed * 7919 + 17) % 2147483647;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

/** Float32 values from `low` to `high`. */
export function uniformValues(count: number, random: () => number, low = -1, high = 1): Float32Array {
  return Float32Array.from({ length: count }, () => low + (high - low) * random());
}
