import { elementCount, type Runtime, type SegmentProfile } from '@isthmus/core';
import { type Bundle, bundleSpan } from './bundle.js';
import { infoBytes, nodeFlops } from './costs.js';
import type { CutCandidate } from './cuts.js';
import type { FlowGraph, FlowNode } from './flow.js';
import type { Division, Fragment } from './fragments.js';
import { firstFrame } from './frames.js';
import type { TensorInfos } from './shapes.js';
import { storedBytes, tensorShape } from './tensors.js';

/**
 * What every segment costs for one frame, counted from the graph; `durationMs` is 0 until
 * {@link measureDurations}. Weights that several segments share count for the first of them, so that the sum over
 * a prefix is what the prefix needs.
 */
export function profileSegments(
  flow: FlowGraph,
  infos: TensorInfos,
  division: Division,
  cuts: readonly CutCandidate[],
): SegmentProfile[] {
  const ends = [...cuts.map((cut) => cut.tensors), flow.outputNames];
  return division.segments.map((segment, index) => {
    const fragments = [segment, ...division.shared.filter(({ users }) => users[0] === index)];
    const nodes = fragments.flatMap((fragment) => fragment.nodes).sort((a, b) => a.index - b.index);
    const starts = index === 0 ? flow.inputNames : ends[index - 1]!;
    return {
      flops: sum(nodes.map((node) => nodeFlops(node, infos))),
      parameters: sum(fragments.flatMap(storedTensors).map((tensor) => elementCount(tensorShape(tensor)))),
      weightBytes: sum(fragments.flatMap(storedTensors).map(storedBytes)),
      activationBytes: sum(nodes.flatMap((node) => node.outputs).map((name) => infoBytes(infos.get(name)))),
      peakActivationBytes: peakBytes(nodes, infos, starts, ends[index]!),
      durationMs: 0,
    };
  });
}

function storedTensors(fragment: Fragment): Fragment['initializers'] {
  return [...fragment.initializers, ...fragment.sparse.flatMap(({ values }) => values ?? [])];
}

// The largest sum of tensors alive at once: from the node that makes them to the last that reads them.
function peakBytes(
  nodes: readonly FlowNode[],
  infos: TensorInfos,
  starts: readonly string[],
  ends: readonly string[],
): number {
  const lastUse = new Map<string, number>();
  nodes.forEach((node, step) => {
    for (const name of node.inputs) lastUse.set(name, step);
  });
  for (const name of ends) lastUse.set(name, nodes.length);
  const alive = new Set(starts);
  const bytesAlive = (): number => sum([...alive].map((name) => infoBytes(infos.get(name))));
  let peak = bytesAlive();
  nodes.forEach((node, step) => {
    for (const name of node.outputs) alive.add(name);
    peak = Math.max(peak, bytesAlive());
    for (const name of [...node.inputs, ...node.outputs]) {
      if ((lastUse.get(name) ?? -1) <= step) alive.delete(name);
    }
  });
  return peak;
}

/**
 * Median milliseconds of every segment as a session of its own, on the machine this runs on. The clock is the
 * runtime's. Segments run on what the segments before them gave for a pseudo-random frame.
 *
 * @param options.numRuns Measured runs per segment, after one that is not. @default 5
 *
 * @throws IsthmusError the runtime's.
 */
export async function measureDurations(
  bundle: Bundle,
  runtime: Runtime,
  options: { numRuns?: number; onSegment?: (index: number) => void } = {},
): Promise<number[]> {
  const { numRuns = 5, onSegment } = options;
  const durations: number[] = [];
  let feeds = firstFrame(bundle.manifest);
  for (const { index } of bundle.manifest.segments) {
    onSegment?.(index);
    const session = await runtime.load(bundleSpan(bundle, index, index + 1));
    try {
      let { outputs } = await session.run(feeds); // warms up
      const measured: number[] = [];
      for (let run = 0; run < numRuns; run++) {
        const result = await session.run(feeds);
        measured.push(result.durationMs);
        outputs = result.outputs;
      }
      durations.push(measured.sort((a, b) => a - b)[numRuns >> 1]!);
      feeds = outputs;
    } finally {
      await session.release();
    }
  }
  return durations;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
