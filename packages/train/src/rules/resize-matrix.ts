/** How one axis is resized (https://onnx.ai/onnx/operators/onnx__Resize.html). */
export interface AxisResize {
  from: number;
  to: number;
  scale: number;
  mode: 'nearest' | 'linear';
  coordinates: string;
  nearest: string;
}

/** The matrix [to][from] that resizes an axis; undefined for coordinates or roundings not known here. */
export function resizeMatrix(axis: AxisResize): readonly Float32Array[] | undefined {
  const rows = Array.from({ length: axis.to }, (_, index): Float32Array | undefined => {
    if (axis.from === axis.to && axis.scale === 1) return unitRow(axis.from, index);
    const position = sourcePosition(axis, index);
    if (position === undefined) return undefined;
    if (axis.mode === 'linear') return linearRow(axis.from, position);
    const nearest = rounded(position, axis.nearest);
    return nearest === undefined ? undefined : unitRow(axis.from, clamp(nearest, axis.from));
  });
  return rows.every((row) => row !== undefined) ? rows : undefined;
}

function clamp(index: number, size: number): number {
  return Math.min(Math.max(index, 0), size - 1);
}

function unitRow(size: number, index: number): Float32Array {
  const row = new Float32Array(size);
  row[index] = 1;
  return row;
}

function linearRow(size: number, position: number): Float32Array {
  const row = new Float32Array(size);
  const inside = Math.min(Math.max(position, 0), size - 1);
  const low = Math.floor(inside);
  row[low] = 1 - (inside - low);
  if (inside > low) row[low + 1] = inside - low;
  return row;
}

function sourcePosition({ from, to, scale, coordinates }: AxisResize, index: number): number | undefined {
  switch (coordinates) {
    case 'half_pixel':
      return (index + 0.5) / scale - 0.5;
    case 'pytorch_half_pixel':
      return to > 1 ? (index + 0.5) / scale - 0.5 : 0;
    case 'asymmetric':
      return index / scale;
    case 'align_corners':
      return to > 1 ? (index * (from - 1)) / (to - 1) : 0;
    default:
      return undefined;
  }
}

function rounded(position: number, nearest: string): number | undefined {
  switch (nearest) {
    case 'round_prefer_floor':
      return Math.ceil(position - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(position + 0.5);
    case 'floor':
      return Math.floor(position);
    case 'ceil':
      return Math.ceil(position);
    default:
      return undefined;
  }
}
