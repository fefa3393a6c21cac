import type { Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Bundle } from './bundle.js';
import type { ModelProto } from './onnx_pb.js';
import { type SplitOptions, splitModel } from './split.js';
import { chainModel, inceptionModel, unetModel } from './testing/models.js';
import { verifyBundle } from './verify.js';
import { writeModel } from './write.js';

let runtime: Runtime;
beforeAll(() => {
  runtime = createNodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

const provenance = { source: 'a test', licence: 'none' };

async function splitAndVerify(model: ModelProto, options: Partial<SplitOptions> = {}): Promise<Bundle> {
  const bytes = writeModel(model);
  const bundle = await splitModel(bytes, { runtime, name: 'test', provenance, profileRuns: 1, ...options });
  const reports = await verifyBundle(bytes, bundle, runtime);
  expect(reports).toHaveLength(bundle.manifest.segments.length);
  return bundle;
}

describe('splitModel', () => {
  it.each([
    ['chain', chainModel(1)],
    ['chain with an open batch', chainModel('N')],
    ['inception', inceptionModel()],
    ['unet', unetModel()],
  ])('%s', async (_, model) => {
    const { manifest } = await splitAndVerify(model);
    expect(manifest.dynamicBatch).toBe(true);
    expect(manifest.segments.length).toBeGreaterThanOrEqual(4);
  });
});
