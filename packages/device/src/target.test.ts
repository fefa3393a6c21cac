import { describe, expect, test } from 'vitest';
import { resolveTarget, type Target } from './target.js';

describe('what is asked of answers', () => {
  test.each<[Target, string, number | undefined]>([
    [{}, 'latency', 0.9995],
    [{ deadlineMs: 100 }, 'quality', undefined],
    // Else the worst answer would be the best: nothing is sooner, or cheaper.
    [{ objective: { kind: 'latency' } }, 'latency', 0.99],
    [{ objective: { kind: 'energy' }, deadlineMs: 100 }, 'energy', 0.99],
    [{ objective: { kind: 'bytes' }, minQuality: 0 }, 'bytes', 0],
    [{ objective: { kind: 'bytes' }, maxAccuracyDrop: 0.25 }, 'bytes', 0.75],
    [{ objective: { kind: 'quality' } }, 'quality', undefined],
  ])('%j', (target, kind, minQuality) => {
    const { objective, constraints } = resolveTarget(target);
    expect(objective.kind).toBe(kind);
    expect(constraints.minQuality).toBe(minQuality);
  });
});

test('a drop in accuracy does not leave its name behind', () => {
  expect(resolveTarget({ maxAccuracyDrop: 0.1, minCut: 2 }).constraints).toEqual({
    minQuality: 0.9,
    minCut: 2,
  });
});

test('an energy model is taken as it is, a preset by name', () => {
  const own = { computeWatts: 1, radioWatts: 1, joulesPerByte: 0, idleWatts: 0 };
  expect(resolveTarget({ energy: own }).energy).toBe(own);
  expect(resolveTarget({ energy: 'boardWifi' }).energy.computeWatts).toBeGreaterThan(
    resolveTarget({}).energy.computeWatts,
  );
});
