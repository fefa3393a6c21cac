/** A copy with a few bytes changed, cut, added, or all of them replaced. */
export function mutate(bytes: Uint8Array, random: () => number): Uint8Array {
  const kind = random();
  const copy = Uint8Array.from(bytes);
  if (kind < 0.7) {
    for (let n = 1 + Math.floor(random() * 3); n > 0; n--) {
      copy[Math.floor(random() * copy.length)] = Math.floor(random() * 256);
    }
    return copy;
  }
  if (kind < 0.8) return copy.subarray(0, Math.floor(random() * copy.length));
  if (kind < 0.9) return Uint8Array.from([...copy, ...copy.subarray(0, 1 + Math.floor(random() * 9))]);
  return copy.map(() => Math.floor(random() * 256));
}
