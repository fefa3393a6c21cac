import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createMemory, type Holding } from './memory.js';

/** Things that know how often they are held, and whether somebody works with them. */
function createThings(sizes: readonly number[]) {
  const held = sizes.map(() => 0);
  const ready = sizes.map(() => false);
  let isUsedAfterRelease = false;
  const holdings = sizes.map(
    (numBytes, index): Holding<number> => ({
      key: `thing ${index}`,
      numBytes,
      async load() {
        held[index]!++;
        return index;
      },
      async release() {
        held[index]!--;
        if (held[index]! < 0) isUsedAfterRelease = true;
      },
      onChange: (isReady) => {
        ready[index] = isReady;
      },
    }),
  );
  return {
    holdings,
    held,
    ready,
    heldBytes: () => sizes.reduce((sum, numBytes, index) => sum + numBytes * held[index]!, 0),
    wasReleasedTwice: () => isUsedAfterRelease,
  };
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

test('holds no more than it may once nobody works, each thing once, and gives all of it back', async () => {
  const sizes = [0, 10, 20, 30, 40, 50];
  const step = fc.record({ thing: fc.nat(5), isDrop: fc.boolean(), isTogether: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const memory = createMemory(60);
      const { holdings, held, heldBytes, wasReleasedTwice } = createThings(sizes);
      let running: Promise<unknown>[] = [];
      for (const { thing, isDrop, isTogether } of steps) {
        const holding = holdings[thing]!;
        if (isDrop) await memory.drop(holding.key);
        else {
          running.push(
            memory.use(holding, async (value) => {
              expect(value).toBe(thing);
              await settle();
              expect(held[thing]).toBeGreaterThan(0);
            }),
          );
        }
        if (isTogether) continue;
        await Promise.all(running);
        const wasTogether = running.length > 1;
        running = [];
        // What ran together was kept together; the next one that comes alone makes room again.
        if (!wasTogether && !isDrop && steps.every((one) => !one.isTogether)) {
          expect(heldBytes()).toBeLessThanOrEqual(60);
        }
        expect(Math.max(...held)).toBeLessThanOrEqual(1);
      }
      await Promise.all(running);
      await memory.release();
      expect(held).toEqual(sizes.map(() => 0));
      expect(wasReleasedTwice()).toBe(false);
    }),
  );
});

test('lets go first what was used longest ago, and tells', async () => {
  const memory = createMemory(60);
  const { holdings, ready } = createThings([0, 20, 20, 20, 40]);
  for (const index of [0, 1, 2, 3, 1]) await memory.use(holdings[index]!, async () => {});
  expect(memory.hasRoom(holdings[4]!)).toBe(false);
  expect(memory.hasRoom(holdings[1]!)).toBe(true);
  await memory.use(holdings[4]!, async () => {});
  expect(ready).toEqual([true, true, false, false, true]);
});

test('keeps what is in use, and tries again what did not load', async () => {
  const memory = createMemory(30);
  const { holdings, held } = createThings([20, 20]);
  await memory.use(holdings[0]!, async () => {
    await memory.use(holdings[1]!, async () => {});
    expect(held).toEqual([1, 1]);
  });
  let attempts = 0;
  const failing: Holding<string> = {
    key: 'failing',
    numBytes: 1,
    load: async () => {
      if (++attempts === 1) throw new Error('not now');
      return 'there';
    },
    release: async () => {},
  };
  await expect(memory.use(failing, async (value) => value)).rejects.toThrow('not now');
  expect(await memory.use(failing, async (value) => value)).toBe('there');
});
