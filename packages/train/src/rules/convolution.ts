import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { kernelGradient } from './kernel-gradient.js';
import { type Convolution, readConvolution, transposedConvolution } from './transposed-convolution.js';
import { readWindow } from './windows.js';

const conv: GradientRule = (context) => {
  const { draft, ops, inputs, outputs, attributes, gradient, shape, wants } = context;
  const [x = '', kernel = ''] = inputs;
  const convolution = readConvolution(attributes, shape(0), shape(1), draft.shapeOf(outputs[0] ?? ''));
  return [
    wants(0) ? transposedConvolution(ops, convolution, gradient, kernel) : undefined,
    wants(1) ? kernelGradient(ops, convolution, x, gradient) : undefined,
    wants(2) ? biasGradient(context) : undefined,
  ];
};

// A transposed convolution is the gradient of a convolution from its output to its input; so the gradient of its
// input is that convolution, and the kernel's the same with the parts exchanged.
const convTranspose: GradientRule = (context) => {
  const { draft, ops, node, inputs, outputs, attributes, gradient, shape, wants } = context;
  const [x = '', kernel = ''] = inputs;
  if (attributes.text('auto_pad', 'NOTSET') !== 'NOTSET' || attributes.has('output_shape')) {
    throw noGradient(node, 'its padding is given by auto_pad or output_shape');
  }
  const inner = shape(0).slice(2);
  const outer = draft.shapeOf(outputs[0] ?? '');
  const window = readWindow(attributes, shape(1).slice(2), outer.slice(2), inner);
  const group = attributes.int('group', 1);
  const convolution: Convolution = { window, group, input: outer, output: shape(0), kernel: shape(1) };
  const ofInput = (): string =>
    draft.node('Conv', [gradient, kernel], {
      kernel_shape: window.kernel,
      strides: window.strides,
      dilations: window.dilations,
      pads: [...window.before, ...window.after],
      group,
    });
  const cropped = (name: string): string =>
    ops.slice(name, { starts: inner.map(() => 0), ends: inner, axes: inner.map((_, axis) => axis + 2) });
  return [
    wants(0) ? cropped(ofInput()) : undefined,
    wants(1) ? kernelGradient(ops, convolution, gradient, x) : undefined,
    wants(2) ? biasGradient(context) : undefined,
  ];
};

function biasGradient({ draft, ops, gradient }: GradientContext): string {
  const axes = draft.shapeOf(gradient).flatMap((_, axis) => (axis === 1 ? [] : [axis]));
  return ops.reduceSum(gradient, axes, false);
}

/** Convolutions of any rank, grouped, strided and dilated. */
export const convolutionRules: GradientRules = { Conv: conv, ConvTranspose: convTranspose };
