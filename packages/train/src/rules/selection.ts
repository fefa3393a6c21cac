import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { type Ops, positiveAxis } from '../ops.js';
import { constantNumbers } from './constants.js';

// What was not taken gets zeros: between the elements, then around them.
const slice: GradientRule = (context) => {
  const { draft, ops, shape } = context;
  const size = shape(0);
  const starts = constantNumbers(context, 1, 'starts') ?? [];
  const axes = constantNumbers(context, 3, 'axes') ?? starts.map((_, axis) => axis);
  const steps = constantNumbers(context, 4, 'steps') ?? starts.map(() => 1);
  const taken = draft.shapeOf(context.outputs[0] ?? '');
  const pads = [...size, ...size].map(() => 0);
  let { gradient } = context;
  axes.forEach((rawAxis, index) => {
    const axis = positiveAxis(rawAxis, size.length);
    const total = size[axis] ?? 1;
    const count = taken[axis] ?? 1;
    const step = steps[index] ?? 1;
    const given = starts[index] ?? 0;
    const start = Math.min(Math.max(given < 0 ? given + total : given, 0), step > 0 ? total : total - 1);
    const stride = Math.abs(step);
    // Backwards: the last element taken is the first there is.
    const first = step > 0 ? start : start + step * (count - 1);
    if (step < 0) gradient = ops.flip(gradient, [axis]);
    gradient = spread(ops, gradient, axis, stride);
    pads[axis] = first;
    pads[axis + size.length] = total - first - ((count - 1) * stride + 1);
  });
  return [ops.pad(gradient, pads)];
};

// Zeros between neighbours along an axis, so that they are `stride` apart.
function spread(ops: Ops, x: string, axis: number, stride: number): string {
  const shape = ops.draft.shapeOf(x);
  const count = shape[axis] ?? 1;
  if (stride === 1 || count === 1) return x;
  const alone = ops.reshape(x, shape.toSpliced(axis + 1, 0, 1));
  const zeros = Array.from({ length: 2 * (shape.length + 1) }, () => 0);
  const apart = ops.pad(alone, zeros.with(shape.length + 1 + axis + 1, stride - 1));
  const joined = ops.reshape(apart, shape.with(axis, count * stride));
  return ops.slice(joined, { starts: [0], ends: [(count - 1) * stride + 1], axes: [axis] });
}

const pad: GradientRule = (context) => {
  const { ops, node, attributes, shape } = context;
  const size = shape(0);
  const pads = constantNumbers(context, 1, 'pads') ?? [];
  const axes = constantNumbers(context, 3, 'axes') ?? size.map((_, axis) => axis);
  const mode = attributes.text('mode', 'constant');
  let { gradient } = context;
  axes.forEach((rawAxis, index) => {
    const axis = positiveAxis(rawAxis, size.length);
    const total = size[axis] ?? 1;
    const before = pads[index] ?? 0;
    const after = pads[index + axes.length] ?? 0;
    if (mode === 'constant') {
      gradient = crop(ops, gradient, { axis, before, after });
    } else if (before !== 0 || after !== 0) {
      const sources = Array.from({ length: before + total + after }, (_, position) =>
        paddedSource(position - before, total, mode),
      );
      if (sources.some((source) => Number.isNaN(source))) throw noGradient(node, `its mode is ${mode}`);
      gradient = scatter(ops, gradient, { axis, total, indices: ops.draft.integers(sources) });
    }
  });
  return [gradient];
};

// Negative counts are elements that were cut off.
function crop(ops: Ops, x: string, at: { axis: number; before: number; after: number }): string {
  const shape = ops.draft.shapeOf(x);
  const { axis, before, after } = at;
  const ends = [(shape[axis] ?? 1) - Math.max(0, after)];
  const inner = ops.slice(x, { starts: [Math.max(0, before)], ends, axes: [axis] });
  const zeros = [...shape, ...shape].map(() => 0);
  const lost = zeros.with(axis, Math.max(0, -before)).with(axis + shape.length, Math.max(0, -after));
  return ops.pad(inner, lost);
}

// Which element stands at a position outside; NaN for a mode not known here.
function paddedSource(position: number, total: number, mode: string): number {
  switch (mode) {
    case 'edge':
      return Math.min(Math.max(position, 0), total - 1);
    case 'wrap':
      return ((position % total) + total) % total;
    case 'reflect': {
      const period = Math.max(1, 2 * (total - 1));
      const folded = ((position % period) + period) % period;
      return folded < total ? folded : period - folded;
    }
    default:
      return Number.NaN;
  }
}

/** Adds the elements along an axis to those that they were taken from. */
function scatter(ops: Ops, x: string, to: { axis: number; total: number; indices: string }): string {
  const shape = ops.draft.shapeOf(x);
  const like = shape.map((size, axis) => (axis === to.axis ? size : 1));
  const indices = ops.expand(ops.reshape(to.indices, like), shape);
  const zeros = ops.zeros(shape.with(to.axis, to.total));
  return ops.draft.node('ScatterElements', [zeros, indices, x], { axis: to.axis, reduction: 'add' });
}

const gather: GradientRule = ({ draft, ops, inputs, attributes, gradient, shape }: GradientContext) => {
  const [, indices = ''] = inputs;
  const size = shape(0);
  const axis = positiveAxis(attributes.int('axis', 0), size.length);
  const count = shape(1).reduce((product, length) => product * length, 1);
  const flat = ops.reshape(indices, [count]);
  const long = draft.typeOf(flat) === 'int64' ? flat : draft.node('Cast', [flat], { to: 7 });
  const rows = ops.reshape(gradient, size.with(axis, count));
  return [scatter(ops, rows, { axis, total: size[axis] ?? 1, indices: long })];
};

/** Operators that take a part, or repeat one. */
export const selectionRules: GradientRules = { Slice: slice, Pad: pad, Gather: gather };
