import {
  type Cut,
  float16ToFloat32,
  float32ToFloat16,
  isIsthmusError,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  type Tensor,
} from '@isthmus/core';
import { type Bundle, bundleSpan } from '@isthmus/graph';
import type { Frame } from '../rd/pictures.js';

/** What the uncompressed model makes of a picture: float32 tensors of cuts, by name. */
export interface Sample {
  /** Of the picture. */
  name: string;
  tensors: NamedTensors;
}

/** Pictures as training takes them. */
export interface SampleSource {
  /** Resolves to undefined for a picture that cannot be read. */
  get(name: string): Promise<Sample | undefined>;
  /** Pictures that could not be read, by name. */
  readonly skipped: ReadonlySet<string>;
  release(): Promise<void>;
}

export interface SampleSourceOptions {
  bundle: Bundle;
  runtime: Runtime;
  readFrame: (name: string) => Promise<Frame>;
  /** Cuts whose tensors are wanted, ascending; the last of them is the model's end. */
  cuts: readonly number[];
  /** Tensors beyond are computed again when they are wanted again. @default 3 GiB */
  maxBytes?: number;
}

/** Half precision is more than enough for what is about to be quantized; outputs stay as they are. */
type Kept = Readonly<
  Record<string, { shape: readonly number[]; half: Uint16Array } | { full: Tensor<'float32'> }>
>;

/** Runs the model once for each picture and keeps what came of it, in half precision, as long as memory allows. */
export async function openSamples(options: SampleSourceOptions): Promise<SampleSource> {
  const { bundle, runtime, readFrame, cuts, maxBytes = 3 * 2 ** 30 } = options;
  const lastCut = bundle.manifest.cuts.length - 1;
  const sessions: RuntimeSession[] = [];
  const wanted = cuts.map((index) => bundle.manifest.cuts[index]).filter((cut) => cut !== undefined);
  let at = 0;
  for (const { index } of wanted) {
    if (index > at) sessions.push(await runtime.load(bundleSpan(bundle, at, index)));
    at = index;
  }
  const kept = new Map<string, Kept>();
  const skipped = new Set<string>();
  let numBytes = 0;
  const compute = async (name: string): Promise<NamedTensors> => {
    let tensors: NamedTensors = (await readFrame(name)).tensors;
    const found: Record<string, Tensor> = {};
    let next = 0;
    let reached = 0;
    for (const cut of wanted) {
      if (cut.index > reached) {
        const session = sessions[next++];
        if (session !== undefined) tensors = (await session.run(tensors)).outputs;
        reached = cut.index;
      }
      for (const tensor of floatsOf(cut, tensors)) Object.assign(found, tensor);
    }
    return found;
  };
  return {
    skipped,
    async get(name) {
      if (skipped.has(name)) return undefined;
      const known = kept.get(name);
      if (known !== undefined) return { name, tensors: unpack(known) };
      try {
        const packed = pack(await compute(name), bundle.manifest.cuts[lastCut]);
        const size = sizeOf(packed);
        if (numBytes + size <= maxBytes) {
          kept.set(name, packed);
          numBytes += size;
        }
        // As it will be from now on: the first time is no exception.
        return { name, tensors: unpack(packed) };
      } catch (error) {
        const isPicture = isIsthmusError(error) && error.code.startsWith('image/');
        if (!isPicture) throw error;
        skipped.add(name);
        return undefined;
      }
    },
    async release() {
      for (const session of sessions) await session.release();
      kept.clear();
    },
  };
}

function floatsOf({ tensors: expected }: Cut, tensors: NamedTensors): NamedTensors[] {
  return expected.flatMap(({ name, type }) => {
    const tensor = tensors[name];
    return type === 'float32' && tensor !== undefined ? [{ [name]: tensor }] : [];
  });
}

function pack(tensors: NamedTensors, last: Cut | undefined): Kept {
  const outputs = new Set(last?.tensors.map(({ name }) => name));
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, data }]) => [
      name,
      outputs.has(name)
        ? { full: { type: 'float32', shape, data: (data as Float32Array<ArrayBuffer>).slice() } }
        : { shape, half: float32ToFloat16(data as Float32Array) },
    ]),
  );
}

function unpack(kept: Kept): NamedTensors {
  return Object.fromEntries(
    Object.entries(kept).map(([name, value]): [string, Tensor] => [
      name,
      'full' in value
        ? value.full
        : {
            type: 'float32',
            shape: value.shape,
            data: float16ToFloat32(value.half) as Float32Array<ArrayBuffer>,
          },
    ]),
  );
}

function sizeOf(kept: Kept): number {
  return Object.values(kept).reduce(
    (sum, value) => sum + ('full' in value ? value.full.data.byteLength : value.half.byteLength),
    0,
  );
}
