import { isIsthmusError, type Manifest } from '@isthmus/core';
import { expect, test } from 'vitest';
import {
  checkPlan,
  choosePlan,
  deviceBytes,
  type LinkEstimate,
  type Plan,
  pricePlans,
  profiledMs,
} from './index.js';

const sha256 = '0'.repeat(64);
const tensor = (name: string, shape: number[]) => ({
  name,
  type: 'float32' as const,
  shape,
  batched: true,
  asInput: '',
  asOutput: '',
});

// 600 kB in, 40 kB in the middle, 4 kB out; 10 ms and 30 ms of computation.
const manifest: Manifest = {
  format: 'isthmus-bundle',
  version: 1,
  model: 'small',
  provenance: { source: 'test', licence: 'Apache-2.0', sha256 },
  dynamicBatch: false,
  preprocess: null,
  task: { kind: 'tensor' },
  header: '',
  cuts: [150_000, 10_000, 1000].map((size, index) => ({
    index,
    tensors: [tensor(`t${index}`, [1, size])],
    numBytes: 4 * size,
  })),
  segments: [10, 30].map((durationMs, index) => ({
    index,
    numNodes: 1,
    file: { path: `segments/${index}`, numBytes: 1_000_000 * (index + 1), sha256 },
    shared: [],
    profile: {
      flops: 0,
      parameters: 0,
      weightBytes: 0,
      activationBytes: 0,
      peakActivationBytes: 1000,
      durationMs,
    },
  })),
  shared: [],
  codecs: [
    {
      id: 'raw',
      kind: 'raw',
      version: 1,
      paths: [0, 1].map((cut) => ({ from: cut, to: cut })),
      levels: [
        { name: 'float32', params: { dtype: 'float32' } },
        { name: 'float16', params: { dtype: 'float16' } },
      ],
      tablesSha256: null,
      files: [],
    },
    {
      id: 'quantized',
      kind: 'quantized',
      version: 1,
      paths: [0, 1].map((cut) => ({ from: cut, to: cut })),
      levels: [8, 4, 2].map((bits) => ({ name: `${bits} bits`, params: { bits } })),
      tablesSha256: null,
      files: [],
    },
  ],
  profiledOn: 'test',
};
const link = (bytesPerSecond: number, roundTripMs = 10): LinkEstimate => ({ bytesPerSecond, roundTripMs });

test('prices device, link and cloud apart', () => {
  const found = pricePlans({
    manifest,
    estimate: link(1_000_000),
    deviceSlowdown: 3,
    cloudSlowdown: 0.5,
  }).find(({ plan }) => plan.kind === 'split' && plan.from === 1 && plan.codec === 'raw' && plan.level === 0);
  expect(found).toMatchObject({ deviceMs: 30, cloudMs: 15, numBytes: 40_020, bits: 32 });
  expect(found?.linkMs).toBeCloseTo(50.02);
});

test('counts operations where nothing was measured', () => {
  const segments = manifest.segments.map((segment) => ({
    ...segment,
    profile: { ...segment.profile, durationMs: 0, flops: 4e8 },
  }));
  expect(profiledMs({ ...manifest, segments }, 0, 2)).toBe(80);
  expect(profiledMs(manifest, 0, 2)).toBe(40);
});

test('on a fast link the cloud does everything, on a slow one the device does more', () => {
  const options = { manifest, deviceSlowdown: 4, cloudSlowdown: 0.2 };
  expect(choosePlan({ ...options, estimate: link(1e9) })).toMatchObject({ from: 0, codec: 'raw', level: 0 });
  expect(choosePlan({ ...options, estimate: link(1e6) })).toMatchObject({ from: 1, codec: 'raw', level: 0 });
  expect(choosePlan({ ...options, estimate: link(1e4), mayRunLocally: true })).toMatchObject({
    kind: 'local',
  });
});

test('loses quality only to meet a deadline, and then as little as it takes', () => {
  const options = { manifest, estimate: link(200_000), deviceSlowdown: 1 };
  expect(choosePlan(options)).toMatchObject({ from: 1, codec: 'raw', level: 0 });
  expect(choosePlan({ ...options, deadlineMs: 160 })).toMatchObject({ from: 1, codec: 'raw', level: 1 });
  expect(choosePlan({ ...options, deadlineMs: 110 })).toMatchObject({
    from: 1,
    codec: 'quantized',
    level: 0,
  });
  expect(choosePlan({ ...options, deadlineMs: 1 })).toMatchObject({ from: 1, codec: 'quantized', level: 2 });
});

test('stays within codecs, memory, depth and packet size', () => {
  const from = (options: object) =>
    new Set(
      pricePlans({ manifest, estimate: link(1e6), ...options }).map(({ plan }) =>
        plan.kind === 'split' ? `${plan.from} ${plan.codec}` : 'local',
      ),
    );
  expect(from({ codecs: ['raw'] })).toEqual(new Set(['0 raw', '1 raw']));
  expect(from({ maxDeviceBytes: 1_000_999 })).toEqual(new Set(['0 raw', '0 quantized']));
  expect(from({ maxDeviceCut: 0, mayRunLocally: true })).toEqual(new Set(['0 raw', '0 quantized']));
  expect(from({ maxPacketBytes: 41_000 })).toEqual(new Set(['1 raw', '1 quantized', '0 quantized']));
  expect(deviceBytes(manifest, 2)).toBe(3_001_000);
});

test('says so when nothing fits', () => {
  expect(() => choosePlan({ manifest, estimate: link(1e6), codecs: [] })).toThrowError(
    expect.objectContaining({ code: 'request/invalid-plan' }),
  );
});

test.each<[string, Plan]>([
  ['bundle/no-such-cut', { kind: 'split', from: 7, codec: 'raw', level: 0, to: 7 }],
  ['request/invalid-plan', { kind: 'split', from: 1, codec: 'raw', level: 0, to: 0 }],
  ['request/invalid-plan', { kind: 'split', from: 0.5, codec: 'raw', level: 0, to: 1 }],
  ['request/invalid-plan', {} as Plan],
  ['codec/unknown', { kind: 'split', from: 1, codec: 'zip', level: 0, to: 1 }],
  ['codec/no-such-path', { kind: 'split', from: 0, codec: 'raw', level: 0, to: 1 }],
  ['codec/no-such-level', { kind: 'split', from: 1, codec: 'raw', level: 2, to: 1 }],
])('refuses with %s the plan %j', (code, plan) => {
  let thrown: unknown;
  try {
    checkPlan(manifest, plan);
  } catch (error) {
    thrown = error;
  }
  expect(isIsthmusError(thrown) && thrown.code).toBe(code);
});
