import { createTensor, elementCount } from '@isthmus/core';
import { type AttributeValue, createGraphBuilder, type GraphBuilder } from '../build.js';
import type { ModelProto } from '../onnx_pb.js';
import { int64Tensor } from '../tensors.js';

/** A float32 graph under construction that finds free names and shares small constants. Knows no layouts. */
export class Emitter {
  readonly #builder: GraphBuilder;
  readonly #names: Set<string>;
  readonly #constants = new Map<string, string>();

  /** @param reserved Names that the source gives to its tensors, so that no helper takes one of them. */
  constructor(graphName: string, reserved: Iterable<string> = []) {
    this.#builder = createGraphBuilder({ name: graphName, opset: 17 });
    this.#names = new Set(reserved);
  }

  /** `hint`, or `hint` with a number where that is taken. */
  unique(hint: string): string {
    let name = hint;
    for (let count = 1; this.#names.has(name); count++) name = `${hint}_${count}`;
    this.#names.add(name);
    return name;
  }

  input(name: string, shape: readonly number[]): void {
    this.#builder.input(name, 'float32', shape);
  }

  output(name: string, shape: readonly number[]): void {
    this.#builder.output(name, 'float32', shape);
  }

  node(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): void {
    this.#builder.multiNode(opType, inputs, outputs, attributes);
  }

  /** Adds float weights; returns their name. `data` is kept, not copied. */
  floats(hint: string, shape: readonly number[], data: Float32Array): string {
    return this.#builder.constant(this.unique(hint), createTensor('float32', shape, data));
  }

  /** Adds a list of integers, such as a shape; returns its name. Equal lists share one. */
  integers(hint: string, values: readonly number[]): string {
    return this.#once(`integers ${values}`, () =>
      this.#builder.constant(this.unique(hint), int64Tensor(values)),
    );
  }

  /** Adds a float without axes; returns its name. Equal ones share one. */
  scalar(value: number): string {
    return this.#once(`scalar ${value}`, () => this.floats(`scalar_${value}`, [], Float32Array.of(value)));
  }

  build(): ModelProto {
    return this.#builder.build();
  }

  #once(key: string, add: () => string): string {
    const name = this.#constants.get(key) ?? add();
    this.#constants.set(key, name);
    return name;
  }
}

/** `data` with its axes in another order: axis `i` of the result is axis `order[i]` of the source. */
export function permute(
  data: Float32Array,
  shape: readonly number[],
  order: readonly number[],
): Float32Array<ArrayBuffer> {
  const strides = shape.map((_, axis) => elementCount(shape.slice(axis + 1)));
  const sizes = order.map((axis) => shape[axis]!);
  const steps = order.map((axis) => strides[axis]!);
  const result = new Float32Array(data.length);
  const at = new Array<number>(sizes.length).fill(0);
  let from = 0;
  for (let to = 0; to < result.length; to++) {
    result[to] = data[from]!;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      from += steps[axis]!;
      if (++at[axis]! < sizes[axis]!) break;
      from -= sizes[axis]! * steps[axis]!;
      at[axis] = 0;
    }
  }
  return result;
}
