import { base64ToBytes, concatBytes } from './bytes.js';
import { IsthmusError } from './errors.js';
import { type CutTensor, type FileRef, getCut, type Manifest } from './manifest.js';

/** What runs: the segments from cut `from` up to cut `to`, as one ONNX model. */
export interface Span {
  from: number;
  to: number;
  /** Tensors of cut `from`. */
  inputs: CutTensor[];
  /** Tensors of cut `to`. */
  outputs: CutTensor[];
  /** The files whose bytes, in this order, make up the body. */
  files: FileRef[];
}

/**
 * The span between two cuts. Shared fragments come first and once, so that every segment finds them.
 *
 * @throws IsthmusError `bundle/no-such-cut` if a cut does not exist or `to` is not behind `from`.
 */
export function describeSpan(manifest: Manifest, from: number, to: number): Span {
  const inputs = getCut(manifest, from).tensors;
  const outputs = getCut(manifest, to).tensors;
  if (to <= from) {
    throw new IsthmusError('bundle/no-such-cut', `A span runs forward: ${from}→${to} holds no segment.`);
  }
  const segments = manifest.segments.slice(from, to);
  const shared = [...new Set(segments.flatMap((segment) => segment.shared))].sort((a, b) => a - b);
  return {
    from,
    to,
    inputs,
    outputs,
    files: [...shared.map((index) => manifest.shared[index]!), ...segments.map((segment) => segment.file)],
  };
}

/**
 * The span's ONNX model. Parsing concatenated protobuf messages merges them, so composing is concatenating:
 * header, inputs, shared fragments, segments, outputs
 * (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
 *
 * @param bodies The contents of `span.files`, in their order.
 *
 * @example
 * ```ts
 * const span = describeSpan(manifest, 0, 2);
 * const model = composeSpan(manifest, span, await Promise.all(span.files.map(read)));
 * ```
 */
export function composeSpan(manifest: Manifest, span: Span, bodies: readonly Uint8Array[]): Uint8Array {
  return concatBytes([
    base64ToBytes(manifest.header),
    ...span.inputs.map((tensor) => base64ToBytes(tensor.asInput)),
    ...bodies,
    ...span.outputs.map((tensor) => base64ToBytes(tensor.asOutput)),
  ]);
}
