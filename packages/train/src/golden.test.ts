import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from './draft.js';
import { addGradients } from './gradients.js';
import { softmaxCrossEntropy } from './losses.js';
import { loadModel } from './testing/run.js';

interface Golden {
  loss: number;
  tensors: Record<string, { shape: number[]; values: number[]; gradient: number[] }>;
}

/** The net of testing/golden_gradients.py, operator by operator, its batch normalization spelled out. */
function buildNet(draft: Draft): string {
  const node = (
    op: string,
    inputs: string[],
    attributes: Record<string, number | number[] | string | { float: number }> = {},
  ): string => draft.node(op, inputs, attributes);
  const channels = draft.integers([1, 4, 1, 1]);
  let y = node('Conv', ['x', 'stem.weight', 'stem.bias'], { strides: [2, 2], pads: [1, 1, 1, 1] });
  const centred = node('Sub', [y, node('ReduceMean', [y], { axes: [0, 2, 3] })]);
  const variance = node('ReduceMean', [node('Mul', [centred, centred])], { axes: [0, 2, 3] });
  const deviation = node('Sqrt', [node('Add', [variance, draft.scalar(1e-5)])]);
  const scaled = node('Mul', [node('Div', [centred, deviation]), node('Reshape', ['bn.scale', channels])]);
  const skip = node('HardSwish', [node('Add', [scaled, node('Reshape', ['bn.bias', channels])])]);
  y = node('Conv', [skip, 'depthwise.weight'], { pads: [1, 1, 1, 1], group: 4 });
  // Gelu by way of Erf, as exporters write it.
  const below = node('Add', [node('Erf', [node('Div', [y, draft.scalar(Math.SQRT2)])]), draft.scalar(1)]);
  y = node('Add', [node('Mul', [node('Mul', [y, draft.scalar(0.5)]), below]), skip]);
  y = node('Pad', [y, draft.integers([0, 0, 0, 1, 0, 0, 1, 1])], { mode: 'reflect' });
  y = node('MaxPool', [y], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  y = node('ConvTranspose', [y, 'up.weight'], { strides: [2, 2], pads: [1, 1, 1, 1] });
  y = node('InstanceNormalization', [y, 'group.scale', 'group.bias'], { epsilon: { float: 1e-5 } });
  y = node('LeakyRelu', [y], { alpha: { float: 0.1 } });
  y = node('Resize', [y, '', draft.constant(float32Tensor([1, 1, 2, 2]))], {
    mode: 'linear',
    coordinate_transformation_mode: 'half_pixel',
  });
  y = node('AveragePool', [y], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  y = node('MatMul', [node('ReduceL2', [y], { axes: [2, 3], keepdims: 0 }), 'head.weight']);
  const targets = draft.constant(float32Tensor([0, 1, 0, 0, 0, 0, 0, 0, 0, 1], [2, 5]));
  return node('Add', [
    softmaxCrossEntropy(draft, y, targets),
    node('ReduceMean', [node('Pow', [y, draft.scalar(2)])], { keepdims: 0 }),
  ]);
}

describe('gradients recorded from PyTorch', () => {
  it('are those of the same net here', async () => {
    const path = join(import.meta.dirname, 'testing', 'golden-gradients.json');
    const golden = JSON.parse(await readFile(path, 'utf8')) as Golden;
    const draft = new Draft();
    const feeds = Object.fromEntries(
      Object.entries(golden.tensors).map(([name, { shape, values }]) => {
        draft.input(name, 'float32', shape);
        return [name, float32Tensor(values, shape)];
      }),
    );
    const loss = buildNet(draft);
    const gradients = addGradients(draft, { loss, of: Object.keys(feeds) });
    const run = await loadModel(draft.build([loss, ...gradients.values()]));
    const found = await run(feeds);
    expect(found[loss]?.[0]).toBeCloseTo(golden.loss, 3);
    for (const [name, { gradient }] of Object.entries(golden.tensors)) {
      const values = found[gradients.get(name) ?? ''];
      expect(values?.length).toBe(gradient.length);
      const largest = Math.max(...gradient.map(Math.abs));
      gradient.forEach((expected, index) => {
        const error = Math.abs(expected - (values?.[index] ?? Number.NaN));
        // The stem's bias goes away in the normalization behind it: its gradient is zero, and rounding is left.
        expect(error, `${name}[${index}]`).toBeLessThan(2e-5 * largest + 1e-4);
      });
    }
  });
});
