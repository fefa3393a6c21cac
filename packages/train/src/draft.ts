import { elementCount, IsthmusError, type Tensor, type TensorType } from '@isthmus/core';
import {
  type AttributeValue,
  float32Tensor,
  int64Tensor,
  type ModelProto,
  type NodeProto,
} from '@isthmus/graph';
import { buildModel } from './build-model.js';
import type { CompositeRule } from './gradient-context.js';
import { inferNode, type KnownTensor } from './infer.js';

/** A weight that training changes. Its values are where training starts. */
export interface Parameter {
  readonly name: string;
  readonly tensor: Tensor<'float32'>;
  /** Whether weight decay pulls it towards zero: so for kernels, not for biases and scales. */
  readonly decays: boolean;
}

/** What training carries beside weights, such as a running mean. */
export interface Statistic {
  readonly name: string;
  readonly tensor: Tensor<'float32'>;
  /** The tensor of a batch of which it is the running average; undefined for one that stays as it is. */
  readonly follows: string | undefined;
}

/** What gradients flow through: one node, or several that have one rule together. */
export interface Step {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly of: NodeProto | { readonly name: string; readonly rule: CompositeRule };
}

export interface DraftNodeOptions {
  /** Name of the first output. @default made from the operator and a number */
  output?: string;
  /** @default '' (ai.onnx) */
  domain?: string;
  /** Of the first output, where it does not follow from the operator and its inputs. */
  shape?: readonly number[];
}

/** Small constants are the same wherever they are used. */
const longestShared = 32;

/**
 * An ONNX graph under construction, of which every tensor's type and (static) shape are known.
 *
 * @example
 * ```ts
 * const draft = new Draft();
 * const x = draft.input('x', 'float32', [8, 2]);
 * const w = draft.parameter('w', float32Tensor([1, 2], [2, 1]));
 * const loss = draft.node('ReduceSumSquare', [draft.node('MatMul', [x, w])], { keepdims: 0 });
 * const gradients = addGradients(draft, { loss, of: [w] });
 * const model = draft.build([loss, gradients.get(w) ?? '']);
 * ```
 */
export class Draft {
  /** Version of the ai.onnx operator set. */
  readonly opset: number;
  readonly #tensors = new Map<string, KnownTensor>();
  readonly #inputs: string[] = [];
  readonly #parameters = new Map<string, Parameter>();
  readonly #statistics = new Map<string, Statistic>();
  readonly #made = new Set<string>();
  readonly #nodes: NodeProto[] = [];
  readonly #steps: Step[] = [];
  readonly #shared = new Map<string, string>();
  /** Names kept for tensors to come. */
  readonly #reserved: ReadonlySet<string>;
  #composing = false;

  /** @param options.reserved Names of outputs that come from elsewhere, which nothing else may be given before. */
  constructor(options: { opset?: number; reserved?: readonly string[] } = {}) {
    this.opset = options.opset ?? 17;
    this.#reserved = new Set(options.reserved);
    if (this.opset < 17) {
      throw new IsthmusError('usage/invalid', `A draft needs operator set 17 or later, not ${this.opset}.`);
    }
  }

  /** In the order in which they were added, which is topological. */
  get steps(): readonly Step[] {
    return this.#steps;
  }

  get parameters(): readonly Parameter[] {
    return [...this.#parameters.values()];
  }

  get statistics(): readonly Statistic[] {
    return [...this.#statistics.values()];
  }

  get inputs(): readonly string[] {
    return this.#inputs;
  }

  /** An independent draft that begins as this one is now. */
  clone(): Draft {
    const copy = new Draft({ opset: this.opset, reserved: [...this.#reserved] });
    for (const [name, tensor] of this.#tensors) copy.#tensors.set(name, tensor);
    for (const [name, parameter] of this.#parameters) copy.#parameters.set(name, parameter);
    for (const [name, statistic] of this.#statistics) copy.#statistics.set(name, statistic);
    for (const [key, name] of this.#shared) copy.#shared.set(key, name);
    for (const name of this.#made) copy.#made.add(name);
    copy.#inputs.push(...this.#inputs);
    // Nodes get more outputs where a gradient needs them.
    const nodes = new Map(this.#nodes.map((node) => [node, copyNode(node)]));
    copy.#nodes.push(...nodes.values());
    copy.#steps.push(
      ...this.#steps.map((step) =>
        'opType' in step.of ? { ...step, of: nodes.get(step.of) ?? step.of } : step,
      ),
    );
    return copy;
  }

  /** Declares an input and returns its name. */
  input(name: string, type: TensorType, shape: readonly number[]): string {
    this.#define(name, { type, shape });
    this.#inputs.push(name);
    return name;
  }

  /** Declares a weight to train and returns its name. */
  parameter(name: string, tensor: Tensor<'float32'>, options: { decays?: boolean } = {}): string {
    this.#define(name, { type: 'float32', shape: tensor.shape });
    this.#parameters.set(name, { name, tensor, decays: options.decays ?? tensor.shape.length > 1 });
    return name;
  }

  /**
   * Declares a number or several that training carries from step to step without a gradient, and returns the name.
   *
   * @param tensor Where it starts.
   * @param follows A float32 tensor of the same shape, of which it becomes the running average; left out, it stays.
   *
   * @throws IsthmusError `usage/invalid` if `follows` is of another shape.
   */
  statistic(name: string, tensor: Tensor<'float32'>, follows?: string): string {
    if (follows !== undefined && this.shapeOf(follows).join() !== tensor.shape.join()) {
      throw new IsthmusError('usage/invalid', `${name} cannot follow ${follows}, which has another shape.`);
    }
    this.#define(name, { type: 'float32', shape: tensor.shape });
    this.#statistics.set(name, { name, tensor, follows });
    return name;
  }

  /** Adds a constant and returns its name. The data is not copied; equal small constants become one. */
  constant(tensor: Tensor, name?: string): string {
    const numElements = elementCount(tensor.shape);
    if (name !== undefined || numElements > longestShared) {
      const fresh = name ?? this.unique('constant');
      this.#define(fresh, { type: tensor.type, shape: tensor.shape, constant: tensor });
      return fresh;
    }
    // Object.is tells -0 from 0, which joining does not.
    const key = `${tensor.type}[${tensor.shape}]${Array.from(tensor.data as ArrayLike<number | bigint>, (value) => (Object.is(value, -0) ? '-0' : value))}`;
    let shared = this.#shared.get(key);
    if (shared === undefined) {
      shared = this.unique('constant');
      this.#define(shared, { type: tensor.type, shape: tensor.shape, constant: tensor });
      this.#shared.set(key, shared);
    }
    return shared;
  }

  /** A float32 constant of rank 0. */
  scalar(value: number): string {
    return this.constant(float32Tensor([value], []));
  }

  /** An int64 constant of rank 1: sizes, axes and the like. */
  integers(values: readonly number[]): string {
    return this.constant(int64Tensor(values));
  }

  /**
   * Adds a node and returns the name of its output.
   *
   * @throws IsthmusError `model/invalid` if an input does not exist or the output's name is taken.
   */
  node(
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
    options: DraftNodeOptions = {},
  ): string {
    const output = options.output ?? this.unique(opType);
    this.multiNode(opType, inputs, [output], attributes, options);
    return output;
  }

  /** Adds a node with several named outputs; an empty name leaves an output out. */
  multiNode(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
    options: Omit<DraftNodeOptions, 'output'> = {},
  ): readonly string[] {
    this.#add({ opType, domain: options.domain ?? '', inputs, outputs, attributes }, options.shape);
    return outputs;
  }

  /** Adds a node as another model has it, with other names for what it reads and makes. */
  copy(node: NodeProto, inputs: readonly string[], outputs: readonly string[]): void {
    const { opType, domain, attribute: protos } = node;
    this.#add({ opType, domain, inputs, outputs, protos });
  }

  /**
   * Adds what `build` adds as one step with a gradient of its own, where that is cheaper or safer than the chain
   * of its nodes' gradients, or not the true one (rounding).
   *
   * @param inputs What the rule gives gradients of, in that order.
   * @param build Adds nodes and returns the outputs.
   */
  composite(
    name: string,
    inputs: readonly string[],
    build: () => readonly string[],
    rule: CompositeRule,
  ): readonly string[] {
    if (this.#composing) return build();
    this.#composing = true;
    try {
      const outputs = build();
      this.#steps.push({ inputs, outputs, of: { name, rule } });
      return outputs;
    } finally {
      this.#composing = false;
    }
  }

  /** Gives a node an optional output that it did not have, and returns that output's name. */
  extraOutput(node: NodeProto, index: number, type: TensorType, shape: readonly number[]): string {
    const present = node.output[index] ?? '';
    if (present !== '') return present;
    const name = this.unique(`${node.opType}_${index}`);
    this.#define(name, { type, shape });
    this.#made.add(name);
    while (node.output.length <= index) node.output.push('');
    node.output[index] = name;
    return name;
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** @throws IsthmusError `model/unsupported` if the shape depends on data. */
  shapeOf(name: string): readonly number[] {
    const { shape } = this.#get(name);
    if (shape === undefined) {
      throw new IsthmusError(
        'model/unsupported',
        `The shape of ${name} does not follow from the graph. Training needs static shapes: fold the model first.`,
        { details: { tensor: name } },
      );
    }
    return shape;
  }

  typeOf(name: string): TensorType {
    return this.#get(name).type;
  }

  /** The value of a constant; undefined for what is computed, fed or trained. */
  constantOf(name: string): Tensor | undefined {
    return this.#tensors.get(name)?.constant;
  }

  /** A name that nothing has yet. */
  unique(base: string): string {
    for (let number = this.#tensors.size; ; number++) {
      const name = `${base}_${number}`;
      if (!this.#tensors.has(name) && !this.#reserved.has(name)) return name;
    }
  }

  /**
   * The model that computes `outputs`, with only what they need. Parameters and statistics become constants where
   * `weights` has a value for them, and inputs where it has not.
   */
  build(outputs: readonly string[], weights: ReadonlyMap<string, Tensor> = new Map()): ModelProto {
    const carried = [...this.#parameters.keys(), ...this.#statistics.keys()].filter(
      (name) => !this.#made.has(name),
    );
    return buildModel({
      opset: this.opset,
      tensors: this.#tensors,
      inputs: [...this.#inputs, ...carried.filter((name) => !weights.has(name))],
      constants: new Map(
        carried.flatMap((name) => {
          const value = weights.get(name);
          return value === undefined ? [] : [[name, value]];
        }),
      ),
      nodes: this.#nodes,
      outputs: outputs.map((name) => ({ name, ...this.#get(name) })),
    });
  }

  #add(
    spec: Omit<Parameters<typeof inferNode>[0], 'opset' | 'inputs'> & { inputs: readonly string[] },
    shape?: readonly number[],
  ): void {
    const inputs = spec.inputs.map((name) => ({ name, tensor: name === '' ? undefined : this.#get(name) }));
    const { node, outputs } = inferNode({ ...spec, opset: this.opset, inputs });
    spec.outputs.forEach((name, index) => {
      if (name === '') return;
      const known = outputs[index] ?? { type: 'float32', shape: undefined };
      const isCarried = this.#parameters.has(name) || this.#statistics.has(name);
      if (!isCarried || this.#made.has(name)) {
        this.#define(name, index === 0 && shape !== undefined ? { ...known, shape } : known);
      }
      this.#made.add(name);
    });
    this.#nodes.push(node);
    if (!this.#composing) this.#steps.push({ inputs: spec.inputs, outputs: spec.outputs, of: node });
  }

  #define(name: string, tensor: KnownTensor): void {
    if (name === '' || this.#tensors.has(name)) {
      throw new IsthmusError('model/invalid', `Two tensors of the draft are called ${JSON.stringify(name)}.`);
    }
    this.#tensors.set(name, tensor);
  }

  #get(name: string): KnownTensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) {
      throw new IsthmusError('model/invalid', `The draft has no tensor called ${JSON.stringify(name)}.`);
    }
    return tensor;
  }
}

// Defaults of unset fields live on the prototype.
function copyNode(node: NodeProto): NodeProto {
  const copy = Object.create(Object.getPrototypeOf(node)) as NodeProto;
  return Object.assign(copy, node, { input: [...node.input], output: [...node.output] });
}
