import { IsthmusError, type NamedTensors, type Runtime } from '@isthmus/core';
import { type Bundle, bundleSpan } from './bundle.js';
import { firstFrame, relativeDifference } from './frames.js';
import type { ModelProto } from './onnx_pb.js';
import { writeModel } from './write.js';

/** How the model cut in two at one cut compares with the whole. */
export interface CutReport {
  cut: number;
  tensors: string[];
  /** Largest absolute difference of any output, relative to the range of that output of the whole model. */
  difference: number;
}

export interface VerifyOptions {
  /** Largest difference allowed. @default 1e-4 */
  tolerance?: number;
  /** Frames tried at every cut. @default 2 */
  numFrames?: number;
  onCut?: (report: CutReport) => void;
}

/**
 * Proves that the split is the whole: at every inner cut, and for the uncut span, runs the device's part and then
 * the cloud's on pseudo-random frames and compares the outputs with those of the model that was split.
 *
 * @param model The model as it was before splitting.
 * @returns A report per cut; that of cut 0 is the uncut span.
 *
 * @throws IsthmusError `model/verify-failed` naming the worst cut; the runtime's errors.
 *
 * @example
 * ```ts
 * const bundle = await splitModel(bytes, { runtime, name: 'my-model', provenance });
 * const reports = await verifyBundle(bytes, bundle, runtime);
 * console.log(Math.max(...reports.map((report) => report.difference)));
 * ```
 */
export async function verifyBundle(
  model: Uint8Array | ModelProto,
  bundle: Bundle,
  runtime: Runtime,
  options: VerifyOptions = {},
): Promise<CutReport[]> {
  const { tolerance = 1e-4, numFrames = 2, onCut } = options;
  const { manifest } = bundle;
  const frames = Array.from({ length: numFrames }, (_, index) => firstFrame(manifest, 100 + index));
  const whole = await runAll(runtime, model instanceof Uint8Array ? model : writeModel(model), frames);
  const lastCut = manifest.cuts.length - 1;
  const reports: CutReport[] = [];
  for (let cut = 0; cut < lastCut; cut++) {
    const atCut = cut === 0 ? frames : await runAll(runtime, bundleSpan(bundle, 0, cut), frames);
    const parts = await runAll(runtime, bundleSpan(bundle, cut, lastCut), atCut);
    const differences = parts.map((outputs, index) => largestDifference(whole[index]!, outputs));
    const report: CutReport = {
      cut,
      tensors: manifest.cuts[cut]!.tensors.map(({ name }) => name),
      difference: Math.max(...differences),
    };
    reports.push(report);
    onCut?.(report);
  }
  const worst = reports.reduce((a, b) => (b.difference > a.difference ? b : a));
  if (!(worst.difference <= tolerance)) {
    throw new IsthmusError(
      'model/verify-failed',
      `Cut ${worst.cut} at [${worst.tensors.join(', ')}] differs from the whole model by ` +
        `${worst.difference.toExponential(1)} of the output's range; ${tolerance} is allowed. ` +
        'Does the model draw random numbers?',
      { details: { reports } },
    );
  }
  return reports;
}

async function runAll(
  runtime: Runtime,
  model: Uint8Array,
  frames: readonly NamedTensors[],
): Promise<NamedTensors[]> {
  const session = await runtime.load(model);
  try {
    const results: NamedTensors[] = [];
    for (const frame of frames) results.push((await session.run(frame)).outputs);
    return results;
  } finally {
    await session.release();
  }
}

function largestDifference(whole: NamedTensors, parts: NamedTensors): number {
  return Math.max(
    ...Object.entries(whole).map(([name, expected]) => {
      const actual = parts[name];
      return actual === undefined ? Number.POSITIVE_INFINITY : relativeDifference(expected, actual);
    }),
  );
}
