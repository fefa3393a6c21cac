import {
  type Cut,
  type FileRef,
  formatManifest,
  IsthmusError,
  type Manifest,
  type Preprocess,
  type Provenance,
  parseManifest,
  type Runtime,
  sha256Hex,
  type Task,
} from '@isthmus/core';
import { openBatch } from './batch.js';
import type { Bundle } from './bundle.js';
import { codecEntries, pixelsEntries } from './codec-entries.js';
import { infoBytes, nodeCosts } from './costs.js';
import { type CutCandidate, findCuts, isSendable } from './cuts.js';
import { type FlowGraph, indexFlow } from './flow.js';
import { foldShapes } from './fold.js';
import { describeCutTensor, divide, type Fragment, writeFragment, writeHeader } from './fragments.js';
import { describeNode, normalizeModel } from './normalize.js';
import { observeShapes } from './observe.js';
import type { ModelProto } from './onnx_pb.js';
import { measureDurations, profileSegments } from './profile.js';
import { readModel } from './read.js';
import { chooseCuts, namedCuts } from './segments.js';
import { inferShapes, resolveInputShapes, type TensorInfos } from './shapes.js';
import { writeModel } from './write.js';

/** What splitting is busy with; `done` of `total` where it comes in steps. */
export interface SplitProgress {
  stage: 'shapes' | 'cuts' | 'batch' | 'segments' | 'profile';
  done: number;
  total: number;
}

export interface SplitOptions {
  /** Runs the model: to see shapes that do not follow from the graph, to prove batching, to measure. */
  runtime: Runtime;
  /** Name of the model in the manifest: lower-case letters, digits, `.`, `_`, `-`. */
  name: string;
  /** Where the model is from. The hash is that of the bytes given, unless said otherwise. */
  provenance: Omit<Provenance, 'sha256'> & { sha256?: string };
  /** @default null */
  preprocess?: Preprocess | null;
  /** @default { kind: 'tensor' } */
  task?: Task;
  /** Fewer only if the model has no more cuts that differ. @default 4 */
  minSegments?: number;
  /** @default 10 */
  maxSegments?: number;
  /** @default 4 */
  maxTensorsPerCut?: number;
  /** Names of the tensors of every inner cut, instead of letting the model be cut where it pays. */
  cutAt?: readonly (readonly string[])[];
  /** Shapes of one frame, for inputs whose axes other than the first are open. */
  inputShapes?: Readonly<Record<string, readonly number[]>>;
  /** Whether to make spans take several frames at once where the graph allows it. @default true */
  dynamicBatch?: boolean;
  /** Measured runs per segment; 0 leaves `durationMs` at 0. @default 5 */
  profileRuns?: number;
  /** The machine of the profile, for people, as in `Xeon 8488C, 2 cores`. */
  machine?: string;
  /** The date of the profile, as in `2025-11-21`. */
  date?: string;
  onProgress?: (progress: SplitProgress) => void;
}

/**
 * Splits an ONNX model into segments. The result holds every weight once; concatenating the fragments of
 * consecutive segments gives the span that runs them.
 *
 * @param model A .onnx file's bytes, or a model from `readModel` (which brings in weights from other files).
 *
 * @throws IsthmusError
 * - `model/not-onnx`, `model/truncated`, `model/invalid`, `model/external-data`: the file;
 * - `model/unsupported`, `model/unsupported-operator`: what it uses, by name;
 * - `model/no-cuts`: nothing depends on the inputs;
 * - `usage/invalid`: an open input shape, or an option out of range;
 * - `bundle/no-such-cut`: `cutAt` names something that is not a cut;
 * - the runtime's.
 *
 * @example
 * ```ts
 * const runtime = createNodeRuntime();
 * const bundle = await splitModel(await readFile('model.onnx'), {
 *   runtime,
 *   name: 'my-model',
 *   provenance: { source: 'model.onnx', licence: 'Apache-2.0' },
 * });
 * for (const [path, bytes] of bundle.files) await writeFile(join('bundle', path), bytes);
 * ```
 */
export async function splitModel(model: Uint8Array | ModelProto, options: SplitOptions): Promise<Bundle> {
  checkOptions(options);
  const { runtime, onProgress } = options;
  const report = (stage: SplitProgress['stage'], done = 0, total = 1): void =>
    onProgress?.({ stage, done, total });

  report('shapes');
  const proto = model instanceof Uint8Array ? await readModel(model) : model;
  const { flow: fixedFlow, infos } = await analyse(proto, options);
  report('cuts');
  const { flow, cuts, batched } = await chooseBatchAndCuts(fixedFlow, infos, options, () => report('batch'));

  report('segments');
  const division = divide(flow, cuts);
  const files = new Map<string, Uint8Array>();
  const addFile = async (path: string, fragment: Fragment): Promise<FileRef> => {
    const bytes = writeFragment(fragment);
    files.set(path, bytes);
    return { path, numBytes: bytes.byteLength, sha256: await sha256Hex(bytes) };
  };
  const shared: FileRef[] = [];
  for (const [index, fragment] of division.shared.entries()) {
    shared.push(await addFile(`shared/${index}.onnx`, fragment));
  }
  const profiles = profileSegments(flow, infos, division, cuts);
  const segments: Manifest['segments'] = [];
  for (const [index, fragment] of division.segments.entries()) {
    segments.push({
      index,
      numNodes: fragment.nodes.length,
      file: await addFile(`segments/${index}.onnx`, fragment),
      shared: division.shared.flatMap(({ users }, position) => (users.includes(index) ? [position] : [])),
      profile: profiles[index]!,
    });
  }

  const { sha256, ...origin } = options.provenance;
  const manifestCuts = describeCuts(flow, infos, cuts, batched);
  const manifest: Manifest = {
    format: 'isthmus-bundle',
    version: 1,
    model: options.name,
    provenance: {
      ...origin,
      sha256: sha256 ?? (await sha256Hex(model instanceof Uint8Array ? model : writeModel(model))),
    },
    dynamicBatch: batched !== undefined,
    preprocess: options.preprocess ?? null,
    task: options.task ?? { kind: 'tensor' },
    header: writeHeader(flow),
    cuts: manifestCuts,
    segments,
    shared,
    codecs: [
      ...codecEntries(manifestCuts),
      ...pixelsEntries({ preprocess: options.preprocess ?? null, cuts: manifestCuts }),
    ],
    profiledOn: [runtime.description, options.machine, options.date].filter(Boolean).join(', '),
  };
  const numRuns = options.profileRuns ?? 5;
  if (numRuns > 0) {
    const total = segments.length;
    const durations = await measureDurations({ manifest, files }, runtime, {
      numRuns,
      onSegment: (index) => report('profile', index, total),
    });
    segments.forEach((segment, index) => {
      segment.profile.durationMs = durations[index]!;
    });
    report('profile', total, total);
  }
  // The limits of the format (names, ranks, numbers of tensors) are the manifest's to know.
  return { manifest: parseManifest(formatManifest(manifest)), files };
}

async function analyse(
  model: ModelProto,
  options: SplitOptions,
): Promise<{ flow: FlowGraph; infos: TensorInfos }> {
  const normalized = indexFlow(normalizeModel(model));
  const inputShapes = resolveInputShapes(normalized.model.graph!.input, options.inputShapes);
  const infos = inferShapes(normalized, inputShapes);
  await observeShapes(normalized, infos, options.runtime);
  const flow = await foldShapes(normalized, infos, options.runtime);
  if (!flow.nodes.some((node) => node.isFlow)) {
    throw new IsthmusError(
      'model/no-cuts',
      'No node of the model depends on its inputs; there is nothing to split.',
    );
  }
  for (const name of flow.outputNames) {
    if (isSendable(infos, name)) continue;
    const producer = flow.producers.get(name);
    throw new IsthmusError(
      'model/unsupported',
      `The model's output ${name}${producer === undefined ? '' : `, made by the ${describeNode(producer.proto)},`} ` +
        'is not a tensor of fixed shape and of a type that can be sent. Remove what follows the last such tensor ' +
        '(the selection of boxes, say) from the model and compute it from the result.',
      { details: { output: name } },
    );
  }
  return { flow, infos };
}

// Cuts are chosen for an open batch first; if that cannot be had, there are more tensors to choose from.
async function chooseBatchAndCuts(
  flow: FlowGraph,
  infos: TensorInfos,
  options: SplitOptions,
  onBatch: () => void,
): Promise<{ flow: FlowGraph; cuts: CutCandidate[]; batched: ReadonlySet<string> | undefined }> {
  if (options.dynamicBatch ?? true) {
    const cuts = selectCuts(flow, infos, options, (name) => infos.get(name)?.shape?.[0] === 1);
    onBatch();
    const wanted = new Set([...flow.inputNames, ...cuts.flatMap((cut) => cut.tensors), ...flow.outputNames]);
    const open = await openBatch(flow, infos, [...wanted], options.runtime);
    if (open !== undefined) {
      // Nodes keep their order and number, so that the cuts hold for the rewritten graph as well.
      return { flow: open.flow, cuts, batched: open.batched };
    }
  }
  return { flow, cuts: selectCuts(flow, infos, options), batched: undefined };
}

function selectCuts(
  flow: FlowGraph,
  infos: TensorInfos,
  options: SplitOptions,
  allows?: (name: string) => boolean,
): CutCandidate[] {
  if (options.cutAt !== undefined) return namedCuts(flow, infos, options.cutAt);
  const { maxTensorsPerCut, minSegments, maxSegments } = options;
  const candidates = findCuts(flow, infos, {
    ...(maxTensorsPerCut === undefined ? {} : { maxTensorsPerCut }),
    ...(allows === undefined ? {} : { allows }),
  });
  const costs = nodeCosts(flow, infos);
  return chooseCuts(candidates, {
    inputBytes: sum(flow.inputNames.map((name) => infoBytes(infos.get(name)))),
    total: {
      flops: sum(costs.map(({ flops }) => flops)),
      weightBytes: sum(costs.map(({ weightBytes }) => weightBytes)),
    },
    ...(minSegments === undefined ? {} : { minSegments }),
    ...(maxSegments === undefined ? {} : { maxSegments }),
  });
}

function describeCuts(
  flow: FlowGraph,
  infos: TensorInfos,
  cuts: readonly CutCandidate[],
  batched: ReadonlySet<string> | undefined,
): Cut[] {
  return [flow.inputNames, ...cuts.map((cut) => cut.tensors), flow.outputNames].map((names, index) => ({
    index,
    tensors: names.map((name) => describeCutTensor(name, infos, batched?.has(name) ?? false)),
    numBytes: sum(names.map((name) => infoBytes(infos.get(name)))),
  }));
}

function checkOptions({ name, minSegments = 1, maxSegments = 10, maxTensorsPerCut = 4 }: SplitOptions): void {
  if (!/^[a-z0-9][a-z0-9._-]{0,99}$/.test(name)) {
    throw new IsthmusError(
      'usage/invalid',
      `A model's name has lower-case letters, digits, ".", "_" and "-"; ${JSON.stringify(name)} does not do.`,
    );
  }
  const inRange = (value: number, low: number, high: number): boolean =>
    Number.isInteger(value) && value >= low && value <= high;
  if (
    !inRange(maxSegments, 1, 63) ||
    !inRange(minSegments, 1, maxSegments) ||
    !inRange(maxTensorsPerCut, 1, 32)
  ) {
    throw new IsthmusError(
      'usage/invalid',
      'A model has 1 to 63 segments, minSegments no more than maxSegments, and cuts of 1 to 32 tensors.',
    );
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
