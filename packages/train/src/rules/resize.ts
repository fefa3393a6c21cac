import type { GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { type Ops, positiveAxis } from '../ops.js';
import { constantNumbers } from './constants.js';
import { resizeMatrix } from './resize-matrix.js';

// Resizing is linear, and separable: a matrix for each axis. Its gradient is the product with the matrices
// transposed; where a nearest neighbour is repeated a whole number of times, the sum of the copies.
const resize: GradientRule = (context) => {
  const { draft, ops, node, attributes, shape } = context;
  const mode = attributes.text('mode', 'nearest');
  const policy = attributes.text('keep_aspect_ratio_policy', 'stretch');
  if ((mode !== 'nearest' && mode !== 'linear') || policy !== 'stretch') {
    throw noGradient(node, `its mode is ${mode}, and its aspect ratio policy ${policy}`);
  }
  if (attributes.int('antialias', 0) !== 0) throw noGradient(node, 'it has antialias');
  const from = shape(0);
  const to = draft.shapeOf(context.outputs[0] ?? '');
  const axes = attributes.ints('axes')?.map((axis) => positiveAxis(axis, from.length));
  const scales = constantNumbers(context, 2, 'scales') ?? [];
  let { gradient } = context;
  from.forEach((size, axis) => {
    const target = to[axis] ?? size;
    const given = axes === undefined ? scales[axis] : scales[axes.indexOf(axis)];
    const matrix = resizeMatrix({
      from: size,
      to: target,
      scale: given ?? target / size,
      mode,
      coordinates: attributes.text('coordinate_transformation_mode', 'half_pixel'),
      nearest: attributes.text('nearest_mode', 'round_prefer_floor'),
    });
    if (matrix === undefined) {
      throw noGradient(node, `its coordinates or its rounding (at axis ${axis}) are of another kind`);
    }
    gradient = multiplyAxis(ops, gradient, axis, matrix);
  });
  return [gradient];
};

// The transposed matrix [to][from] applied along an axis.
function multiplyAxis(ops: Ops, x: string, axis: number, matrix: readonly Float32Array[]): string {
  const shape = ops.draft.shapeOf(x);
  const to = matrix.length;
  const from = matrix[0]?.length ?? 1;
  const isSame = to === from && matrix.every((row, index) => row[index] === 1);
  if (isSame) return x;
  const times = to / from;
  const repeats = matrix.every((row, index) => row[Math.floor(index / times)] === 1);
  if (Number.isInteger(times) && repeats) {
    const copies = ops.reshape(x, shape.toSpliced(axis, 1, from, times));
    return ops.reduceSum(copies, [axis + 1], false);
  }
  const last = shape.length - 1;
  if (axis === last) {
    return ops.matMul(x, ops.floats(Float32Array.from(matrix.flatMap((row) => [...row])), [to, from]));
  }
  const columns = Float32Array.from(
    { length: from * to },
    (_, index) => matrix[index % to]?.[Math.floor(index / to)] ?? 0,
  );
  const left = ops.floats(columns, [from, to]);
  if (axis === last - 1) return ops.matMul(left, x);
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const flat = ops.reshape(x, [...shape.slice(0, axis), to, inner]);
  return ops.reshape(ops.matMul(left, flat), shape.with(axis, from));
}

/** Resampling of pictures and maps. */
export const resizeRules: GradientRules = { Resize: resize };
