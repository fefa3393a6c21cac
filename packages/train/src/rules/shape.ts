import type { GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { positiveAxis } from '../ops.js';
import { constantNumbers } from './constants.js';

const reshaped: GradientRule = ({ ops, gradient, shape }) => [ops.reshape(gradient, shape(0))];

const concat: GradientRule = ({ ops, inputs, attributes, gradient, shape, wants }) => {
  const axis = positiveAxis(attributes.int('axis', 0), shape(0).length);
  let start = 0;
  return inputs.map((_, index) => {
    const end = start + (shape(index)[axis] ?? 1);
    const range = { starts: [start], ends: [end], axes: [axis] };
    start = end;
    return wants(index) ? ops.slice(gradient, range) : undefined;
  });
};

const split: GradientRule = ({ draft, ops, outputs, gradients, attributes, shape }) => {
  const axis = positiveAxis(attributes.int('axis', 0), shape(0).length);
  const parts = outputs.map((name, index) => gradients[index] ?? ops.zeros(draft.shapeOf(name)));
  return [ops.concat(parts, axis)];
};

const tile: GradientRule = (context) => {
  const { ops, gradient, shape } = context;
  const repeats = constantNumbers(context, 1, 'repeats') ?? [];
  const split = shape(0).flatMap((size, axis) => [repeats[axis] ?? 1, size]);
  const axes = shape(0).map((_, axis) => 2 * axis);
  return [ops.reshape(ops.reduceSum(ops.reshape(gradient, split), axes, false), shape(0))];
};

// [batch, channels, height, width] in blocks: which axes are which differs between the two modes.
const depthToSpace: GradientRule = ({ draft, ops, attributes, gradient, shape }) => {
  const block = attributes.int('blocksize', 1);
  if (attributes.text('mode', 'DCR') === 'DCR') {
    return [draft.node('SpaceToDepth', [gradient], { blocksize: block })];
  }
  const [batch = 1, channels = 1, height = 1, width = 1] = shape(0);
  const blocks = ops.reshape(gradient, [batch, channels / block ** 2, height, block, width, block]);
  return [ops.reshape(ops.transpose(blocks, [0, 1, 3, 5, 2, 4]), shape(0))];
};

/** Operators that only move data. */
export const shapeRules: GradientRules = {
  Reshape: reshaped,
  Flatten: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,
  Transpose: ({ ops, attributes, gradient, shape }) => {
    const rank = shape(0).length;
    const order = attributes.ints('perm') ?? Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
    return [
      ops.transpose(
        gradient,
        order.map((_, axis) => order.indexOf(axis)),
      ),
    ];
  },
  Concat: concat,
  Split: split,
  Expand: ({ ops, gradient, shape }) => [ops.sumTo(gradient, shape(0))],
  Tile: tile,
  DepthToSpace: depthToSpace,
  SpaceToDepth: ({ draft, node, attributes, gradient }) => {
    const blocksize = attributes.int('blocksize', 0);
    if (blocksize === 0) throw noGradient(node, 'it has no blocksize');
    return [draft.node('DepthToSpace', [gradient], { blocksize, mode: 'DCR' })];
  },
};
