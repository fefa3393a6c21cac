/** Numbers from 0 up to 1, the same every time for one seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const awkwardBytes = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff] as const;

/** The ways in which {@link mutate} damages a payload; `other` is a sound one of another cut, codec or level. */
const mutations: readonly ((bytes: Uint8Array, other: Uint8Array, pick: Pick) => Uint8Array)[] = [
  // Single bits.
  (bytes, _, pick) => {
    const damaged = bytes.slice();
    for (let times = 1 + pick(8); times > 0; times--) damaged[pick(damaged.length)]! ^= 1 << pick(8);
    return damaged;
  },
  // Sizes and modes, which come first.
  (bytes, _, pick) => {
    const damaged = bytes.slice();
    const reach = Math.min(16, damaged.length);
    for (let times = 1 + pick(4); times > 0; times--) {
      damaged[pick(reach)] = awkwardBytes[pick(awkwardBytes.length)]!;
    }
    return damaged;
  },
  // Too short.
  (bytes, _, pick) => bytes.slice(0, pick(bytes.length)),
  // Too long.
  (bytes, _, pick) => join(bytes, randomBytes(1 + pick(64), pick)),
  (bytes) => join(bytes, bytes),
  // A piece lost, a piece twice.
  (bytes, _, pick) => {
    const [from, to] = [pick(bytes.length), pick(bytes.length)];
    return join(bytes.subarray(0, from), bytes.subarray(to));
  },
  // The beginning of one, the end of another.
  (bytes, other, pick) => join(bytes.subarray(0, pick(bytes.length)), other.subarray(pick(other.length))),
  // As long as it was, with a run of something else.
  (bytes, _, pick) => {
    const damaged = bytes.slice();
    const from = pick(damaged.length);
    damaged.set(randomBytes(Math.min(1 + pick(32), damaged.length - from), pick), from);
    return damaged;
  },
  // Nothing of it but the first byte; nothing at all.
  (bytes, _, pick) => join(bytes.subarray(0, 1), randomBytes(pick(2 * bytes.length), pick)),
  (bytes, _, pick) => randomBytes(pick(2 * bytes.length), pick),
];

/** An integer from 0 to below `end`. */
type Pick = (end: number) => number;

/** A payload damaged in one of many ways: bits, sizes, ends, splices, noise. Now and then it is what it was. */
export function mutate(bytes: Uint8Array, other: Uint8Array, random: () => number): Uint8Array {
  const pick: Pick = (end) => Math.floor(random() * end);
  return mutations[pick(mutations.length)]!(bytes, other, pick);
}

function randomBytes(length: number, pick: Pick): Uint8Array {
  return Uint8Array.from({ length }, () => pick(256));
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}
