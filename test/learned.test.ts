import { connect, createMemoryCache, type Frame, type Plan, type Session } from '@isthmus/device';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { CalibratedFixture } from './support/calibrated.js';
import { relativeDifference, writeFixture } from './support/fixture.js';
import { makeLearnedFixture } from './support/learned.js';
import { type ReceiverProcess, serve } from './support/process.js';
import { createStage } from './support/receivers.js';

// Codecs with networks of their own between this process and a receiver's: what lands deeper than it left, most of all.
let fixture: CalibratedFixture;
let receiver: ReceiverProcess;
let removeFolder: () => Promise<void>;
const sessions: Session<Frame>[] = [];
const stage = createStage();

beforeAll(async () => {
  fixture = await makeLearnedFixture();
  const written = await writeFixture(fixture.files);
  removeFolder = written.remove;
  receiver = await serve([written.folder, '--port', '0']);
}, 120_000);
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close();
  await stage.clear();
});
afterAll(async () => {
  await receiver?.stop();
  await removeFolder?.();
  await fixture.runtime.close();
});

async function open(options: { onSegment?: (path: string) => void } = {}): Promise<Session<Frame>> {
  const session = await connect(receiver.url, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
  });
  if (options.onSegment) session.on('segment', ({ path }) => options.onSegment?.(path));
  sessions.push(session);
  return session;
}

const plan = (from: number, to: number, codec: string, level = 0): Plan => ({
  kind: 'split',
  from,
  codec,
  level,
  to,
});

describe('learned', () => {
  test('lands at a later cut, in the very bytes and with the answers of the codec whose networks it has', async () => {
    const session = await open();
    const { id, levels } = session.manifest.codecs.find(
      ({ kind, paths }) => kind === 'calibrated' && paths[0]!.from === 2,
    )!;
    for (const level of levels.keys()) {
      for (const frame of fixture.frames.slice(0, 3)) {
        const expected = await session.run(frame, { plan: plan(2, 2, id, level) });
        const actual = await session.run(frame, { plan: plan(2, 4, 'learned-2-4', level) });
        expect(actual.plan).toMatchObject({ from: 2, to: 4, codec: 'learned-2-4', level });
        expect(actual.bytes.payload).toBe(expected.bytes.payload);
        for (const [name, tensor] of Object.entries(actual.tensors)) {
          const values = expected.tensors[name]!.data as Float32Array;
          (tensor.data as Float32Array).forEach((value, i) => {
            expect(Math.abs(value - values[i]!)).toBeLessThan(1e-4 * (1 + Math.abs(values[i]!)));
          });
        }
      }
    }
  });

  test('codes the tensors of a cut together, in fewer bytes from level to level', async () => {
    const session = await open();
    const { levels } = session.manifest.codecs.find(({ id }) => id === 'learned-4')!;
    const whole = await session.run(fixture.frames[0]!, { plan: plan(4, 4, 'raw') });
    const finest = await session.run(fixture.frames[0]!, { plan: plan(4, 4, 'learned-4') });
    const roughest = await session.run(fixture.frames[0]!, {
      plan: plan(4, 4, 'learned-4', levels.length - 1),
    });
    for (const [name, tensor] of Object.entries(finest.tensors)) {
      expect(relativeDifference(tensor, whole.tensors[name]!)).toBeLessThan(0.05);
    }
    expect(finest.bytes.payload).toBeLessThan(whole.bytes.payload / 2);
    expect(roughest.bytes.payload).toBeLessThan(finest.bytes.payload);
  });

  test('makes a device fetch its encoder and tables, and never its decoder', async () => {
    const fetched = new Set<string>();
    const session = await open({ onSegment: (path) => fetched.add(path) });
    await session.run(fixture.frames[0]!, { plan: plan(2, 4, 'learned-2-4') });
    const own = [...fetched].filter((path) => path.startsWith('codecs/learned-2-4/')).sort();
    expect(own).toEqual(['codecs/learned-2-4/encoder.onnx', 'codecs/learned-2-4/tables.json']);
  });

  test('is refused on another path than its own', async () => {
    const session = await open();
    for (const wrong of [plan(2, 2, 'learned-2-4'), plan(2, 3, 'learned-2-4'), plan(1, 4, 'learned-1')]) {
      await expect(session.run(fixture.frames[0]!, { plan: wrong })).rejects.toMatchObject({
        code: 'codec/no-such-path',
      });
    }
  });

  test('is refused between ends whose tables differ', async () => {
    const { connect: connectWire } = await stage.open(fixture);
    const { tablesSha256 } = fixture.manifest.codecs.find(({ id }) => id === 'learned-1')!;
    const same = await connectWire();
    expect((await same.hello({ tables: { 'learned-1': tablesSha256! } })).tables).toMatchObject({
      'learned-1': tablesSha256,
    });
    const other = await connectWire();
    await expect(other.hello({ tables: { 'learned-1': '0'.repeat(64) } })).rejects.toThrow(
      /wire\/table-mismatch/,
    );
  });
});
