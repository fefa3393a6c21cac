/**
 * What both ONNX Runtime packages agree on, in the few fields used here. No runtime imports: the worker thread
 * loads this file, and should start fast.
 */

/** An input or output that a model declares. `type` and `shape` are unknown for what is not a tensor. */
export interface ValueInfo {
  name: string;
  type?: string;
  /** Numbers are fixed sizes, strings free ones. Empty for a scalar and also for an undeclared shape. */
  shape?: readonly (number | string)[];
}

/** A tensor as ONNX Runtime hands it out. */
export interface OrtValue {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/** The declared inputs or outputs as plain data. */
export function describeValues(
  metadata: readonly {
    name: string;
    isTensor: boolean;
    type?: string;
    shape?: readonly (number | string)[];
  }[],
): ValueInfo[] {
  return metadata.map((value) =>
    value.isTensor && value.type !== undefined
      ? { name: value.name, type: value.type, shape: value.shape ?? [] }
      : { name: value.name },
  );
}

/**
 * ONNX Runtime gives float16 as Float16Array where the engine has one; Isthmus always keeps the bit patterns.
 */
export function asBitPatterns(type: string, data: unknown): unknown {
  return type === 'float16' && ArrayBuffer.isView(data) && !(data instanceof Uint16Array)
    ? new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2)
    : data;
}

/** The message of anything that was thrown; wasm throws plain numbers and strings too. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
