import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createGraphBuilder } from './build.js';
import { findCuts } from './cuts.js';
import { type FlowGraph, indexFlow } from './flow.js';
import { normalizeModel } from './normalize.js';
import type { ModelProto } from './onnx_pb.js';
import { inferShapes, resolveInputShapes, type TensorInfos } from './shapes.js';
import { inceptionModel, unetModel } from './testing/models.js';

function analyse(model: ModelProto): { flow: FlowGraph; infos: TensorInfos } {
  const flow = indexFlow(normalizeModel(model));
  return { flow, infos: inferShapes(flow, resolveInputShapes(flow.model.graph!.input)) };
}

/** What can be computed from the inputs without any of the tensors in `removed`. */
function reachable(flow: FlowGraph, removed: ReadonlySet<string>): Set<string> {
  const reached = new Set(flow.inputNames.filter((name) => !removed.has(name)));
  for (const node of flow.nodes) {
    // A path runs through a node if any of its inputs is on it.
    if (!node.inputs.some((name) => reached.has(name))) continue;
    for (const name of node.outputs) if (!removed.has(name)) reached.add(name);
  }
  return reached;
}

const separates = (flow: FlowGraph, tensors: readonly string[]): boolean => {
  const reached = reachable(flow, new Set(tensors));
  return !flow.outputNames.some((name) => reached.has(name));
};

// A random graph of sums: node i adds up to three earlier tensors; what nobody reads, and a few more, is an output.
const randomGraph: fc.Arbitrary<ModelProto> = fc
  .array(fc.tuple(fc.array(fc.nat(), { minLength: 1, maxLength: 3 }), fc.boolean()), {
    minLength: 2,
    maxLength: 14,
  })
  .map((nodes) => {
    const graph = createGraphBuilder({ name: 'random', opset: 17 });
    const tensors = [graph.input('t0', 'float32', [1, 4])];
    const unread = new Set<string>();
    const outputs = new Set<string>();
    nodes.forEach(([choices, isOutput], index) => {
      // Mostly recent tensors, so that graphs are deep rather than wide.
      const inputs = [
        ...new Set(choices.map((choice) => tensors.at(-1 - (choice % Math.min(4, tensors.length)))!)),
      ];
      for (const name of inputs) unread.delete(name);
      const name = graph.node('Sum', inputs, {}, { output: `t${index + 1}` });
      unread.add(name);
      tensors.push(name);
      if (isOutput && index % 5 === 0) outputs.add(name);
    });
    for (const name of new Set([...outputs, ...unread])) graph.output(name, 'float32', [1, 4]);
    return graph.build();
  });

describe('findCuts', () => {
  it('finds every tensor that all paths run through, and only cuts', () => {
    fc.assert(
      fc.property(randomGraph, (model) => {
        const { flow, infos } = analyse(model);
        const cuts = findCuts(flow, infos);
        for (const cut of cuts) {
          expect(separates(flow, cut.tensors)).toBe(true);
          expect(cut.tensors.length).toBeLessThanOrEqual(4);
        }
        const single = cuts.filter((cut) => cut.tensors.length === 1).map((cut) => cut.tensors[0]);
        const dominators = [...flow.flowTensors].filter(
          (name) =>
            !flow.inputNames.includes(name) &&
            separates(flow, [name]) &&
            // The only output is the last cut itself.
            !(flow.outputNames.length === 1 && flow.outputNames[0] === name),
        );
        expect(single.sort()).toEqual(dominators.sort());
      }),
      { numRuns: 500 },
    );
  });

  it('puts before a cut exactly what its tensors depend on', () => {
    fc.assert(
      fc.property(randomGraph, (model) => {
        const { flow, infos } = analyse(model);
        for (const cut of findCuts(flow, infos)) {
          const inside = new Set(cut.prefix);
          const made = new Set(flow.inputNames);
          for (const node of flow.nodes)
            if (inside.has(node.index)) for (const name of node.outputs) made.add(name);
          for (const index of cut.prefix) {
            for (const name of flow.nodes[index]!.inputs) expect(made).toContain(name);
          }
          for (const node of flow.nodes) {
            if (inside.has(node.index)) continue;
            // What runs behind the cut reads the cut, or what was made behind it.
            for (const name of node.inputs) if (made.has(name)) expect(cut.tensors).toContain(name);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('finds the waists of inception blocks, and bytes of one frame', () => {
    const { flow, infos } = analyse(inceptionModel());
    const single = findCuts(flow, infos, { maxTensorsPerCut: 1 });
    expect(single.map((cut) => cut.tensors[0])).toEqual([
      'stem.conv',
      'stem',
      'mixed0.joined',
      'mixed0.out',
      'mixed1.joined',
      'mixed1.out',
      'head',
    ]);
    expect(single.map((cut) => cut.numBytes / 4)).toEqual([
      16 * 16 * 16,
      16 * 16 * 16,
      32 * 256,
      32 * 64,
      32 * 64,
      32 * 16,
      12 * 16,
    ]);
  });

  it('carries the skips of a U-Net around its middle', () => {
    const { flow, infos } = analyse(unetModel());
    const cuts = findCuts(flow, infos);
    expect(cuts.find((cut) => cut.tensors.includes('middle'))?.tensors.sort()).toEqual([
      'down1',
      'down2',
      'middle',
    ]);
    expect(findCuts(flow, infos, { maxTensorsPerCut: 2 }).some((cut) => cut.tensors.includes('middle'))).toBe(
      false,
    );
  });
});
