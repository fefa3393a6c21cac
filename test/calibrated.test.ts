import { connect, createMemoryCache, type Plan } from '@isthmus/device';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type CalibratedFixture, makeCalibratedFixture } from './support/calibrated.js';
import { relativeDifference } from './support/fixture.js';
import { createStage } from './support/receivers.js';

// A calibrated codec over a real connection: what the device fetches, what crosses, and what is refused.
let fixture: CalibratedFixture;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeCalibratedFixture([2, 4]);
}, 60_000);
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

const plan = (cut: number, codec: string, level = 0): Plan => ({
  kind: 'split',
  from: cut,
  codec,
  level,
  to: cut,
});

describe('calibrated', () => {
  test('answers over a connection as the whole model does, in fewer bytes from level to level', async () => {
    const { url } = await stage.open(fixture);
    const session = await connect(url, {
      model: 'two-heads',
      runtime: fixture.runtime,
      cache: createMemoryCache(),
      mayRunLocally: false,
    });
    for (const cut of [2, 4]) {
      const [codec] = session.manifest.codecs.filter(
        ({ kind, paths }) => kind === 'calibrated' && paths[0]!.from === cut,
      );
      const { id, levels } = codec!;
      const whole = await session.run(fixture.frames[0]!, { plan: plan(cut, 'raw') });
      const finest = await session.run(fixture.frames[0]!, { plan: plan(cut, id) });
      const roughest = await session.run(fixture.frames[0]!, { plan: plan(cut, id, levels.length - 1) });
      for (const [name, tensor] of Object.entries(finest.tensors)) {
        expect(relativeDifference(tensor, whole.tensors[name]!)).toBeLessThan(0.05);
      }
      expect(finest.bytes.payload).toBeLessThan(whole.bytes.payload / 2);
      expect(roughest.bytes.payload).toBeLessThan(finest.bytes.payload);
    }
    await session.close();
  });

  test('caps a frame of noise at the size of its tensors, and the receiver counts it', async () => {
    const { http, url } = await stage.open(fixture, { metrics: true });
    const session = await connect(url, {
      model: 'two-heads',
      runtime: fixture.runtime,
      cache: createMemoryCache(),
      mayRunLocally: false,
    });
    const { id, paths } = session.manifest.codecs.find(({ kind }) => kind === 'calibrated')!;
    const cut = paths[0]!.from;
    const noisy = Object.fromEntries(
      Object.entries(fixture.frames[0]!).map(([name, tensor]) => {
        const data = Float32Array.from(
          tensor.data as Float32Array,
          (_, i) => 1e4 * Math.sin(i * i * 12.9898),
        );
        return [name, { ...tensor, data }];
      }),
    );
    const { bytes } = await session.run(noisy, { plan: plan(cut, id) });
    expect(bytes.payload).toBeGreaterThan(0.9 * session.manifest.cuts[cut]!.numBytes);
    expect(bytes.payload).toBeLessThanOrEqual(session.manifest.cuts[cut]!.numBytes + 8);
    const text = await (await fetch(`${http}/metrics`)).text();
    expect(text).toContain(`isthmus_oversized_payloads_total{model="two-heads",codec="${id}"} 1`);
    await session.close();
  });

  test('is refused between ends whose tables differ', async () => {
    const { connect: connectWire } = await stage.open(fixture);
    const tables = Object.fromEntries(
      fixture.manifest.codecs.flatMap(({ id, tablesSha256 }) =>
        tablesSha256 === null ? [] : [[id, tablesSha256]],
      ),
    );
    const [first, second] = Object.keys(tables);
    const same = await connectWire();
    expect((await same.hello({ tables })).tables).toEqual(tables);
    const other = await connectWire();
    await expect(other.hello({ tables: { ...tables, [first!]: tables[second!]! } })).rejects.toThrow(
      /wire\/table-mismatch/,
    );
  });
});
