/** Something that takes memory while it is held. */
export interface Holding<Value> {
  key: string;
  /** Known before it is loaded. */
  numBytes: number;
  load(): Promise<Value>;
  /** Gives its memory back. */
  release(value: Value): Promise<void>;
  /** It has become ready, or is no longer held. */
  onChange?: (isReady: boolean) => void;
}

/** What a device holds of one bundle, spans and encoders alike. */
export interface Memory {
  /** Works with something, loading it first where it is not held; kept until the work has ended. */
  use<Value, Result>(holding: Holding<Value>, work: (value: Value) => Promise<Result>): Promise<Result>;
  /** Whether it could be held without anything having to go for it. */
  hasRoom(holding: Pick<Holding<unknown>, 'key' | 'numBytes'>): boolean;
  /** Gives its memory back, as soon as whoever works with it has ended. */
  drop(key: string): Promise<void>;
  /** Gives everything back, each as soon as whoever works with it has ended. */
  release(): Promise<void>;
}

interface Held {
  numBytes: number;
  value: Promise<unknown>;
  release: () => Promise<void>;
  onChange: (isReady: boolean) => void;
  /** What works with it now; while anything does, it is not dropped. */
  users: number;
}

/**
 * Holds things up to `maxBytes` together; when more is wanted, what was used longest ago goes first. What is in use is
 * kept, and what takes nothing.
 */
export function createMemory(maxBytes: number): Memory {
  // In the order of last use.
  const all = new Map<string, Held>();

  const totalBytes = (): number => [...all.values()].reduce((sum, { numBytes }) => sum + numBytes, 0);
  const forget = (key: string, held: Held): void => {
    if (all.get(key) !== held) return;
    all.delete(key);
    held.onChange(false);
  };
  const drop = async (key: string, held: Held): Promise<void> => {
    forget(key, held);
    if (held.users === 0) await held.release();
  };
  const makeRoom = async (numBytes: number): Promise<void> => {
    let total = totalBytes() + numBytes;
    for (const [key, held] of [...all]) {
      if (total <= maxBytes) return;
      if (held.users > 0 || held.numBytes === 0) continue;
      total -= held.numBytes;
      if (all.get(key) === held) await drop(key, held);
    }
  };

  const open = <Value>(holding: Holding<Value>): { held: Held; value: Promise<Value> } => {
    const { key, numBytes, onChange = () => {} } = holding;
    const existing = all.get(key);
    if (existing !== undefined) {
      all.delete(key);
      all.set(key, existing);
      // One key stands for one thing.
      return { held: existing, value: existing.value as Promise<Value> };
    }
    const value = makeRoom(numBytes).then(() => holding.load());
    // What did not load leaves nothing to release.
    const release = (): Promise<void> => value.then(holding.release, () => {});
    const held: Held = { numBytes, value, release, onChange, users: 0 };
    all.set(key, held);
    value.then(
      () => all.get(key) === held && onChange(true),
      // A later call shall try again.
      () => all.get(key) === held && all.delete(key),
    );
    return { held, value };
  };

  return {
    async use(holding, work) {
      const { held, value } = open(holding);
      held.users++;
      try {
        return await work(await value);
      } finally {
        held.users--;
        if (held.users === 0 && all.get(holding.key) !== held) await held.release();
      }
    },
    hasRoom: ({ key, numBytes }) => all.has(key) || totalBytes() + numBytes <= maxBytes,
    async drop(key) {
      const held = all.get(key);
      if (held !== undefined) await drop(key, held);
    },
    async release() {
      // What a worker held that died has nothing left to give back.
      await Promise.allSettled([...all].map(([key, held]) => drop(key, held)));
    },
  };
}
