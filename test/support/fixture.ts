import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  createTensor,
  formatManifest,
  type Manifest,
  type NamedTensors,
  type Runtime,
  sha256Hex,
  type Tensor,
} from '@isthmus/core';
import { type Bundle, bundleSpan, createGraphBuilder, splitModel, writeModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';

/** A small model, split, with what the unsplit model says to one frame. */
export interface Fixture {
  manifest: Manifest;
  /** Every file of the bundle, manifest.json included. */
  files: ReadonlyMap<string, Uint8Array>;
  /** The bundle's identity. */
  sha256: string;
  runtime: Runtime;
  frame: NamedTensors;
  /** What the unsplit model makes of the frame. */
  expected: NamedTensors;
  /** The tensors of a cut, for the frame or another. */
  tensorsAt(cut: number, frame?: NamedTensors): Promise<NamedTensors>;
}

/** The same fixture with another bundle, one with codecs added, say. */
export async function withBundle<F extends Fixture>(fixture: F, bundle: Bundle): Promise<F> {
  return { ...fixture, ...(await identify(bundle)) };
}

async function identify({
  manifest,
  files,
}: Bundle): Promise<Pick<Fixture, 'manifest' | 'files' | 'sha256'>> {
  const manifestBytes = new TextEncoder().encode(formatManifest(manifest));
  return {
    manifest,
    files: new Map([...files, ['manifest.json', manifestBytes]]),
    sha256: await sha256Hex(manifestBytes),
  };
}

/**
 * Splits a convolutional network with two outputs at four inner cuts. `features` is one of them and an output too:
 * behind that cut it passes through. With `side` the frame's width and height.
 */
export async function makeFixture(side: number = 32): Promise<Fixture> {
  const runtime = createNodeRuntime({ threads: 1 });
  const model = writeModel(twoHeads(side));
  const bundle = await splitModel(model, {
    runtime,
    name: 'two-heads',
    provenance: { source: 'test', licence: 'Apache-2.0' },
    cutAt: [['early'], ['middle'], ['features'], ['features', 'pooled']],
    profileRuns: 0,
  });
  const frame = { image: pattern([1, 3, side, side], 1) };
  const session = await runtime.load(model);
  const { outputs: expected } = await session.run(frame);
  await session.release();
  return {
    ...(await identify(bundle)),
    runtime,
    frame,
    expected,
    async tensorsAt(cut, given = frame) {
      if (cut === 0) return given;
      const wanted = bundle.manifest.cuts[cut]!.tensors.map((tensor) => tensor.name);
      const prefix = await runtime.load(bundleSpan(bundle, 0, cut));
      const { outputs } = await prefix.run(given, wanted);
      await prefix.release();
      return outputs;
    },
  };
}

/** Writes the bundle into a new temporary folder; `remove` deletes it. */
export async function writeFixture(
  files: ReadonlyMap<string, Uint8Array>,
): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-bundle-'));
  for (const [path, bytes] of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), bytes);
  }
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** The largest absolute difference, relative to the range of `expected`. */
export function relativeDifference(actual: Tensor, expected: Tensor): number {
  const [a, b] = [actual.data as Float32Array, expected.data as Float32Array];
  if (a.length !== b.length) return Infinity;
  const range =
    b.reduce((most, value) => Math.max(most, value), -Infinity) -
    b.reduce((least, value) => Math.min(least, value), Infinity);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0) / range;
}

// Values without a pattern that a wrong layout would keep.
function pattern(shape: readonly number[], seed: number): Tensor<'float32'> {
  const length = shape.reduce((product, size) => product * size, 1);
  let state = seed * 7919 + 1;
  const values = Float32Array.from({ length }, () => {
    state = (state * 48271) % 2147483647;
    return (state / 2147483647) * 2 - 1;
  });
  return createTensor('float32', shape, values);
}

function twoHeads(side: number): ReturnType<ReturnType<typeof createGraphBuilder>['build']> {
  const graph = createGraphBuilder({ name: 'two-heads', opset: 17 });
  const conv = (input: string, output: string, from: number, to: number, stride: number): string => {
    const w = graph.constant(`${output}.weight`, pattern([to, from, 3, 3], to + from));
    const y = graph.node('Conv', [input, w], {
      kernel_shape: [3, 3],
      pads: [1, 1, 1, 1],
      strides: [stride, stride],
    });
    return graph.node('Relu', [y], {}, { output });
  };
  const image = graph.input('image', 'float32', ['batch', 3, side, side]);
  const early = conv(image, 'early', 3, 8, 1);
  const middle = conv(early, 'middle', 8, 16, 2);
  const features = conv(middle, 'features', 16, 16, 2);
  const pooled = graph.node('GlobalAveragePool', [features], {}, { output: 'pooled' });
  const flat = graph.node('Flatten', [pooled], { axis: 1 });
  const head = graph.constant('head', pattern([16, 5], 3));
  graph.node('MatMul', [flat, head], {}, { output: 'scores' });
  graph.output('features', 'float32', ['batch', 16, side / 4, side / 4]);
  graph.output('scores', 'float32', ['batch', 5]);
  return graph.build();
}
