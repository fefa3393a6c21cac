import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { NamedTensors, Tensor } from '@isthmus/core';
import { bundleSpan, float32Tensor, readModel, splitModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { describe, expect, it } from 'vitest';
import { Draft } from './draft.js';
import { addGradients } from './gradients.js';
import { graft } from './graft.js';
import { smallMobileNetV2, smallResNet, type TestNet } from './testing/nets.js';
import { seededRandom, uniformValues } from './testing/random.js';
import { loadModel } from './testing/run.js';

/** Cosine of the angle between what was found and what was expected. */
function cosine(a: readonly number[], b: readonly number[]): number {
  const dot = (x: readonly number[], y: readonly number[]): number =>
    x.reduce((sum, value, index) => sum + value * (y[index] ?? 0), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** Σ gradient · direction in float64. */
function along(gradient: Float32Array | undefined, direction: Float32Array): number {
  return direction.reduce((sum, value, index) => sum + value * (gradient?.[index] ?? 0), 0);
}

function moved(tensor: Tensor, direction: Float32Array, distance: number): Tensor {
  const values = Float32Array.from(
    tensor.data as Float32Array,
    (value, index) => value + distance * (direction[index] ?? 0),
  );
  return float32Tensor(values, tensor.shape);
}

// The slope along a direction by differences of fourth order.
async function slope(
  lossOf: (feeds: NamedTensors) => Promise<number>,
  feeds: NamedTensors,
  name: string,
  direction: Float32Array,
  step: number,
): Promise<number> {
  const at = async (distance: number): Promise<number> => {
    const tensor = feeds[name];
    if (tensor === undefined) throw new Error(`Nothing is called ${name}.`);
    return lossOf({ ...feeds, [name]: moved(tensor, direction, distance) });
  };
  const near = (await at(step)) - (await at(-step));
  const far = (await at(2 * step)) - (await at(-2 * step));
  return (8 * near - far) / (12 * step);
}

const batch = 4;
const numClasses = 5;

async function compareSlopes({ draft, logits, loss }: TestNet, size: number): Promise<number> {
  const random = seededRandom(31);
  const labels = Array.from({ length: batch }, (_, index) => (index * 2) % numClasses);
  const targets = labels.flatMap((label) =>
    Array.from({ length: numClasses }, (_, index) => Number(index === label)),
  );
  const feeds: NamedTensors = {
    x: float32Tensor(uniformValues(batch * 3 * size * size, random), [batch, 3, size, size]),
    targets: float32Tensor(targets, [batch, numClasses]),
    ...Object.fromEntries(draft.parameters.map(({ name, tensor }) => [name, tensor])),
  };
  const names = draft.parameters.map(({ name }) => name);
  const forward = await loadModel(draft.build([logits]));
  const gradients = addGradients(draft, { loss, of: names });
  const found = await (await loadModel(draft.build([...gradients.values()])))(feeds);
  // The logits are float32; the loss is taken from them in float64.
  const lossOf = async (fed: NamedTensors): Promise<number> => {
    const values = (await forward(fed))[logits];
    let sum = 0;
    labels.forEach((label, row) => {
      const scores = [...(values?.subarray(row * numClasses, (row + 1) * numClasses) ?? [])];
      sum += Math.log(scores.reduce((total, score) => total + Math.exp(score), 0)) - (scores[label] ?? 0);
    });
    return sum / batch;
  };
  const expected: number[] = [];
  const given: number[] = [];
  for (const name of names) {
    const gradient = found[gradients.get(name) ?? ''];
    // Two directions a tensor: at random, and along the gradient, where everything counts.
    const length = Math.sqrt(along(gradient, gradient ?? new Float32Array()));
    const count = gradient?.length ?? 0;
    const steepest = Float32Array.from(gradient ?? [], (value) => value / length);
    const anywhere = uniformValues(count, random).map((value) => value * Math.sqrt(3 / count));
    for (const direction of [anywhere, steepest]) {
      expected.push(await slope(lossOf, feeds, name, direction, 2e-3));
      given.push(along(gradient, direction));
    }
  }
  return cosine(given, expected);
}

describe('whole nets', () => {
  it('a residual net has the slopes that differences give', async () => {
    expect(await compareSlopes(smallResNet(batch, 12), 12)).toBeGreaterThan(0.9999);
  });

  it('a net of inverted residuals has the slopes that differences give', async () => {
    expect(await compareSlopes(smallMobileNetV2(batch, 24), 24)).toBeGreaterThan(0.9999);
  });
});

const mobileNet = join(homedir(), '.cache', 'isthmus', 'models', 'mobilenet-v1-r1', 'model.onnx');

// Where somebody has pulled it; nothing is downloaded for a test.
describe.skipIf(!existsSync(mobileNet))('the frozen tail of mobilenet-v1', () => {
  it('hands the gradient to the cut it begins at', async () => {
    const runtime = createNodeRuntime({ threads: 1 });
    const bundle = await splitModel(await readFile(mobileNet), {
      runtime,
      name: 'mobilenet-v1',
      provenance: { source: mobileNet, licence: 'Apache-2.0' },
      profileRuns: 0,
    });
    await runtime.close();
    const numSegments = bundle.manifest.segments.length;
    const from = numSegments - 3;
    const [cut] = bundle.manifest.cuts[from]?.tensors ?? [];
    if (cut === undefined) throw new Error('The bundle has no such cut.');
    const tail = await readModel(bundleSpan(bundle, from, numSegments));
    const draft = new Draft();
    const shape = cut.shape.with(0, 2);
    const x = draft.input('x', 'float32', shape);
    const [scores = ''] = graft(draft, tail, { inputs: { [cut.name]: x }, prefix: 'tail/' }).values();
    expect(draft.parameters).toEqual([]);
    const random = seededRandom(5);
    const size = shape.reduce((product, length) => product * length, 1);
    const weights = uniformValues(
      draft.shapeOf(scores).reduce((a, b) => a * b, 1),
      random,
    );
    const weighted = draft.node('Mul', [
      scores,
      draft.constant(float32Tensor(weights, draft.shapeOf(scores))),
    ]);
    const loss = draft.node('ReduceSum', [weighted], { keepdims: 0 });
    const gradient = addGradients(draft, { loss, of: [x] }).get(x) ?? '';
    const forward = await loadModel(draft.build([scores]));
    const backward = await loadModel(draft.build([gradient]));
    const feeds = { x: float32Tensor(uniformValues(size, random, 0, 3), shape) };
    const found = (await backward(feeds))[gradient];
    const lossOf = async (fed: NamedTensors): Promise<number> => along((await forward(fed))[scores], weights);
    const expected: number[] = [];
    const given: number[] = [];
    const length = Math.sqrt(along(found, found ?? new Float32Array()));
    const steepest = Float32Array.from(found ?? [], (value) => value / length);
    const directions = Array.from({ length: 6 }, () => {
      const noise = uniformValues(size, random).map((value) => value / Math.sqrt(size));
      return noise.map((value, index) => value + 0.2 * (steepest[index] ?? 0));
    });
    for (const direction of [steepest, ...directions]) {
      expected.push(await slope(lossOf, feeds, 'x', direction, 0.05));
      given.push(along(found, direction));
    }
    expect(Math.abs(expected[0] ?? 0)).toBeGreaterThan(1e-3);
    expect(cosine(given, expected)).toBeGreaterThan(0.9999);
  });
});
