import { create } from '@bufbuild/protobuf';
import { IsthmusError, type Tensor, type TensorType } from '@isthmus/core';
import {
  AttributeProto_AttributeType as A,
  type AttributeProto,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from './onnx_pb.js';
import { tensorProto, toOnnxType } from './tensors.js';

/** Sizes of an axis: a number, or a name where it may vary. */
export type Dimension = number | string;

/**
 * The value of an attribute. Plain numbers are integers; `{ float }` and `{ floats }` say otherwise, because
 * ONNX tells 1 from 1.0.
 */
export type AttributeValue =
  | number
  | string
  | readonly number[]
  | readonly string[]
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | Tensor
  | GraphProto;

export interface NodeOptions {
  /** Name of the output. @default made from the operator and a number */
  output?: string;
  /** Name of the node. @default the name of its first output */
  name?: string;
  /** @default '' (ai.onnx) */
  domain?: string;
}

/** Builds an ONNX model, node after node. */
export interface GraphBuilder {
  /** Declares a graph input and returns its name. */
  input(name: string, type: TensorType, shape: readonly Dimension[]): string;
  /** Adds an initializer and returns its name. The tensor's data is not copied. */
  constant(name: string, tensor: Tensor): string;
  /** Adds a node with one output and returns that output's name. An empty input name leaves an input out. */
  node(
    opType: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, AttributeValue>>,
    options?: NodeOptions,
  ): string;
  /** Adds a node with several named outputs. An empty name leaves an output out. */
  multiNode(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes?: Readonly<Record<string, AttributeValue>>,
    options?: Omit<NodeOptions, 'output'>,
  ): readonly string[];
  /** Declares a graph output; without a shape the runtime infers it. */
  output(name: string, type: TensorType, shape?: readonly Dimension[]): void;
  /** The graph alone: the branch of an If, the body of a Loop. */
  buildGraph(): GraphProto;
  build(): ModelProto;
}

/**
 * Starts a model.
 *
 * @param options.opset Version of the ai.onnx operator set.
 *
 * @throws IsthmusError `model/invalid` from its methods: a name defined twice, an attribute that is not whole.
 *
 * @example
 * ```ts
 * const graph = createGraphBuilder({ name: 'tiny', opset: 17 });
 * const x = graph.input('x', 'float32', ['batch', 3, 8, 8]);
 * const w = graph.constant('w', float32Tensor(new Float32Array(4 * 3 * 9), [4, 3, 3, 3]));
 * const y = graph.node('Conv', [x, w], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
 * graph.output(graph.node('LeakyRelu', [y], { alpha: { float: 0.1 } }), 'float32');
 * const bytes = writeModel(graph.build());
 * ```
 */
export function createGraphBuilder(options: { name: string; opset: number }): GraphBuilder {
  const inputs: ValueInfoProto[] = [];
  const outputs: ValueInfoProto[] = [];
  const initializers: TensorProto[] = [];
  const nodes: NodeProto[] = [];
  const defined = new Set<string>();
  const domains = new Set<string>();

  const define = (name: string): string => {
    if (defined.has(name)) {
      throw new IsthmusError('model/invalid', `Two things in ${options.name} are called ${name}.`);
    }
    defined.add(name);
    return name;
  };
  const freshName = (opType: string): string => {
    for (let number = nodes.length; ; number++) {
      if (!defined.has(`${opType}_${number}`)) return `${opType}_${number}`;
    }
  };
  const buildGraph = (): GraphProto =>
    create(GraphProtoSchema, {
      name: options.name,
      node: nodes,
      initializer: initializers,
      input: inputs,
      output: outputs,
    });

  const builder: GraphBuilder = {
    input(name, type, shape) {
      inputs.push(valueInfo(define(name), type, shape));
      return name;
    },
    constant(name, tensor) {
      initializers.push(tensorProto(define(name), tensor));
      return name;
    },
    node(opType, nodeInputs, attributes = {}, { output = freshName(opType), ...rest } = {}) {
      builder.multiNode(opType, nodeInputs, [output], attributes, rest);
      return output;
    },
    multiNode(opType, nodeInputs, nodeOutputs, attributes = {}, { name, domain = '' } = {}) {
      for (const output of nodeOutputs) if (output !== '') define(output);
      if (domain !== '') domains.add(domain);
      nodes.push(
        create(NodeProtoSchema, {
          name: name ?? nodeOutputs.find((output) => output !== '') ?? '',
          opType,
          domain,
          input: [...nodeInputs],
          output: [...nodeOutputs],
          attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
        }),
      );
      return nodeOutputs;
    },
    output(name, type, shape) {
      outputs.push(valueInfo(name, type, shape));
    },
    buildGraph,
    build: () =>
      create(ModelProtoSchema, {
        irVersion: irVersionFor(options.opset),
        producerName: 'isthmus',
        opsetImport: [
          { domain: '', version: BigInt(options.opset) },
          ...[...domains].map((domain) => ({ domain, version: 1n })),
        ],
        graph: buildGraph(),
      }),
  };
  return builder;
}

/** Declares a tensor's name, type and shape; without a shape even its rank is open. */
export function valueInfo(name: string, type: TensorType, shape?: readonly Dimension[]): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: 'tensorType',
        value: {
          elemType: toOnnxType(type),
          ...(shape === undefined
            ? {}
            : {
                shape: {
                  dim: shape.map((size) => ({
                    value:
                      typeof size === 'number'
                        ? ({ case: 'dimValue', value: BigInt(size) } as const)
                        : ({ case: 'dimParam', value: size } as const),
                  })),
                },
              }),
        },
      },
    },
  });
}

/**
 * One attribute of a node.
 *
 * @throws IsthmusError `model/invalid` for a plain number that is not whole.
 */
export function attribute(name: string, value: AttributeValue): AttributeProto {
  const text = new TextEncoder();
  const whole = (number: number): bigint => {
    if (!Number.isSafeInteger(number)) {
      throw new IsthmusError(
        'model/invalid',
        `Attribute ${name} is ${number}: wrap what is not an integer as { float: ${number} }.`,
      );
    }
    return BigInt(number);
  };
  if (typeof value === 'number') {
    return create(AttributeProtoSchema, { name, type: A.INT, i: whole(value) });
  }
  if (typeof value === 'string') {
    return create(AttributeProtoSchema, { name, type: A.STRING, s: text.encode(value) });
  }
  if (isArray(value)) {
    return value.length > 0 && value.every((item) => typeof item === 'string')
      ? create(AttributeProtoSchema, {
          name,
          type: A.STRINGS,
          strings: value.map((item) => text.encode(item)),
        })
      : create(AttributeProtoSchema, { name, type: A.INTS, ints: (value as number[]).map(whole) });
  }
  if ('float' in value) return create(AttributeProtoSchema, { name, type: A.FLOAT, f: value.float });
  if ('floats' in value) {
    return create(AttributeProtoSchema, { name, type: A.FLOATS, floats: [...value.floats] });
  }
  if ('$typeName' in value) return create(AttributeProtoSchema, { name, type: A.GRAPH, g: value });
  return create(AttributeProtoSchema, { name, type: A.TENSOR, t: tensorProto('', value) });
}

function isArray(value: AttributeValue): value is readonly number[] | readonly string[] {
  return Array.isArray(value);
}

// The oldest IR version that admits the operator set (https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
function irVersionFor(opset: number): bigint {
  if (opset <= 18) return 8n;
  return opset <= 20 ? 9n : 10n;
}
