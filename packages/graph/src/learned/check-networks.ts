import {
  elementCount,
  IsthmusError,
  isIsthmusError,
  learnedTensors,
  type Manifest,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  type Tensor,
  type TensorType,
} from '@isthmus/core';
import type { ModelProto, ValueInfoProto } from '../onnx_pb.js';
import { readModel } from '../read.js';
import { declaredShape } from '../shapes.js';
import { fromOnnxType, onnxTypeName } from '../tensors.js';
import { writeModel } from '../write.js';

/** A tensor that a network must take or give; an open size is undefined. */
export interface Expected {
  name: string;
  type: TensorType;
  shape: readonly (number | undefined)[];
}

/** Which of a codec's networks. */
export type NetworkRole = 'encoder' | 'decoder' | 'adapter';

const latent: Expected = {
  name: learnedTensors.latent,
  type: 'float32',
  shape: [1, undefined, undefined, undefined],
};
const level: Expected = { name: learnedTensors.level, type: 'float32', shape: [1] };
/** As many numbers as the coder's tables may describe. */
const maxLatentSize = 2 ** 26;
const maxLatentAxis = 65_536;

/**
 * A network's bytes, after a look at what it declares to take and to give.
 *
 * @throws IsthmusError naming the tensor: `model/invalid` for one that is missing or not wanted, `tensor/type-mismatch`,
 * `tensor/shape-mismatch`; those of `readModel`
 */
export async function readNetwork(
  role: NetworkRole,
  model: Uint8Array | ModelProto,
  manifest: Manifest,
  path: { from: number; to: number },
): Promise<Uint8Array> {
  const proto = await explained(role, async () =>
    model instanceof Uint8Array ? await readModel(model) : model,
  );
  const initializers = new Set(proto.graph?.initializer.map(({ name }) => name));
  const inputs = (proto.graph?.input ?? []).filter(({ name }) => !initializers.has(name));
  const outputs = proto.graph?.output ?? [];
  if (role === 'encoder') {
    const floats = encoderInputs(manifest, path.from);
    checkDeclared(role, 'input', inputs, floats);
    checkDeclared(role, 'output', outputs, [latent]);
  } else {
    const taken = role === 'decoder' ? [latent] : manifest.cuts[path.from]!.tensors;
    checkDeclared(role, 'input', inputs, taken, [level]);
    const given =
      role === 'decoder' ? manifest.cuts[path.to]!.tensors : adapterOutputs(manifest, path, outputs);
    checkDeclared(role, 'output', outputs, given);
  }
  return model instanceof Uint8Array ? model : writeModel(model);
}

/** The tensors of a cut that an encoder takes. */
export function encoderInputs({ cuts }: Manifest, from: number): Manifest['cuts'][number]['tensors'] {
  return cuts[from]!.tensors.filter(({ type, shape }) => type === 'float32' && elementCount(shape) > 0);
}

/**
 * The tensors that an adapter gives. It cannot give what it takes by the same name: where that is all there is to give,
 * its one output may have any name, and elsewhere it passes by.
 */
export function adapterOutputs(
  { cuts }: Manifest,
  { from, to }: { from: number; to: number },
  declared: readonly { name: string }[],
): Expected[] {
  const [only, ...others] = declared;
  if (from === to && only !== undefined && others.length === 0) {
    return cuts[to]!.tensors.map((tensor) => ({ ...tensor, name: only.name }));
  }
  const taken = new Set(cuts[from]!.tensors.map(({ name }) => name));
  return cuts[to]!.tensors.filter(({ name }) => !taken.has(name));
}

/** Loads a network. @throws IsthmusError the runtime's, naming the network */
export function loadNetwork(role: NetworkRole, model: Uint8Array, runtime: Runtime): Promise<RuntimeSession> {
  return explained(role, () => runtime.load(model));
}

/**
 * What the encoder makes of a frame.
 *
 * @param inputs The tensors it takes.
 * @throws IsthmusError `tensor/type-mismatch`, `tensor/shape-mismatch`, `tensor/not-finite`; the runtime's
 */
export async function runEncoder(session: RuntimeSession, inputs: NamedTensors): Promise<Tensor<'float32'>> {
  const { outputs } = await explained('encoder', () => session.run(inputs));
  const { shape, data } = checkActual('encoder', outputs[latent.name], latent);
  if (shape.some((size) => size < 1 || size > maxLatentAxis) || elementCount(shape) > maxLatentSize) {
    throw new IsthmusError('tensor/shape-mismatch', `The encoder's latent [${shape}] is empty or too large.`);
  }
  const values = data as Float32Array;
  if (!values.every(Number.isFinite)) {
    throw new IsthmusError('tensor/not-finite', "The encoder's latent holds NaN or infinity for a frame.");
  }
  return { type: 'float32', shape, data: values };
}

/**
 * Whether a decoder or an adapter makes all tensors of a cut of a latent or a picture.
 *
 * @throws IsthmusError `model/invalid`, `tensor/type-mismatch`, `tensor/shape-mismatch`, the runtime's
 */
export async function checkOutputs(
  role: NetworkRole,
  session: RuntimeSession,
  inputs: NamedTensors,
  tensors: readonly Expected[],
): Promise<void> {
  const feeds: Record<string, Tensor> = { ...inputs };
  if (session.inputNames.includes(level.name)) {
    feeds[level.name] = { type: 'float32', shape: [1], data: Float32Array.of(0) };
  }
  const { outputs } = await explained(role, () => session.run(feeds));
  for (const tensor of tensors) checkActual(role, outputs[tensor.name], tensor);
}

// Whatever is wrong with one of several networks: which of them.
async function explained<Value>(role: NetworkRole, work: () => Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (cause) {
    if (!isIsthmusError(cause)) throw cause;
    const { code, message, details, retryable } = cause;
    throw new IsthmusError(code, `The ${role} cannot be used: ${message}`, { cause, details, retryable });
  }
}

function checkDeclared(
  role: NetworkRole,
  end: 'input' | 'output',
  declared: readonly ValueInfoProto[],
  expected: readonly Expected[],
  optional: readonly Expected[] = [],
): void {
  const wanted = expected.map(describe).join(', ');
  for (const tensor of expected) {
    if (declared.some(({ name }) => name === tensor.name)) continue;
    const names = declared.map(({ name }) => name).join(', ') || 'none';
    throw new IsthmusError(
      'model/invalid',
      `The ${role} has no ${end} ${describe(tensor)}; its ${end}s are: ${names}.`,
      { details: { network: role, tensor: tensor.name } },
    );
  }
  for (const value of declared) {
    const tensor = [...expected, ...optional].find(({ name }) => name === value.name);
    if (tensor === undefined) {
      throw new IsthmusError(
        'model/invalid',
        `The ${role} has an ${end} ${value.name} that it cannot have; its ${end}s must be: ${wanted}.`,
        { details: { network: role, tensor: value.name } },
      );
    }
    const type = value.type?.value;
    if (type?.case !== 'tensorType' || fromOnnxType(type.value.elemType) !== tensor.type) {
      const actual = type?.case === 'tensorType' ? onnxTypeName(type.value.elemType) : 'no tensor';
      throw mismatch('tensor/type-mismatch', role, tensor, actual);
    }
    const shape = declaredShape(value);
    if (shape !== undefined && !fits(shape, tensor.shape)) {
      throw mismatch('tensor/shape-mismatch', role, tensor, `[${shape.map((size) => size ?? '?')}]`);
    }
  }
}

function checkActual(role: NetworkRole, value: Tensor | undefined, expected: Expected): Tensor {
  if (value === undefined) {
    throw new IsthmusError('model/invalid', `The ${role} gives no ${describe(expected)}.`);
  }
  if (value.type !== expected.type) throw mismatch('tensor/type-mismatch', role, expected, value.type);
  if (!fits(value.shape, expected.shape)) {
    throw mismatch('tensor/shape-mismatch', role, expected, `[${value.shape}]`);
  }
  return value;
}

function fits(actual: readonly (number | undefined)[], expected: readonly (number | undefined)[]): boolean {
  return (
    actual.length === expected.length &&
    actual.every((size, axis) => {
      const wanted = expected[axis];
      return size === undefined || wanted === undefined || size === wanted;
    })
  );
}

function mismatch(
  code: 'tensor/type-mismatch' | 'tensor/shape-mismatch',
  role: NetworkRole,
  expected: Expected,
  actual: string,
): IsthmusError {
  return new IsthmusError(
    code,
    `${expected.name} of the ${role} is ${actual}; it must be ${describe(expected)}.`,
    {
      details: { network: role, tensor: expected.name },
    },
  );
}

const describe = ({ name, type, shape }: Expected): string =>
  `${name}: ${type}[${shape.map((size) => size ?? '?')}]`;
