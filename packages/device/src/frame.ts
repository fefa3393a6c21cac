import {
  type CutTensor,
  createPreprocessor,
  describeGeometry,
  type FrameGeometry,
  getCut,
  IsthmusError,
  type Manifest,
  type NamedTensors,
  type Preprocessor,
  type RawImage,
  type Tensor,
} from '@isthmus/core';

/** 8-bit pixels, three or four to a point, as ImageData and sharp's `raw()` give them; alpha is ignored. */
export interface PixelFrame {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/**
 * What can be run on every platform: the tensor of cut 0, its tensors by name where it has several, or pixels.
 */
export type PlainFrame = Tensor | NamedTensors | PixelFrame;

/** A frame that no longer depends on the platform or on what the user does with theirs. */
export type ReadFrame =
  | { kind: 'image'; image: RawImage }
  | { kind: 'tensors'; tensors: Tensor | NamedTensors };

/** Reads the frames that only one platform has; undefined for what it does not know. */
export type ReadPlatformFrame = (frame: unknown) => Promise<RawImage | undefined>;

/** Cut 0 of a frame, and where its picture lies in the model's input, if it was a picture. */
export interface PreparedFrame {
  tensors: NamedTensors;
  geometry: FrameGeometry | undefined;
}

/**
 * @throws IsthmusError `image/unsupported` for what is no frame, and what the platform throws for a picture that
 * it cannot decode
 */
export async function readFrame(frame: unknown, readPlatformFrame: ReadPlatformFrame): Promise<ReadFrame> {
  if (isTensor(frame)) return { kind: 'tensors', tensors: frame };
  const decoded = await readPlatformFrame(frame);
  if (decoded !== undefined) return { kind: 'image', image: decoded };
  if (isPixels(frame)) return { kind: 'image', image: toImage(frame) };
  if (isNamedTensors(frame)) return { kind: 'tensors', tensors: frame };
  throw new IsthmusError(
    'image/unsupported',
    'A frame is a tensor, tensors by name, { data, width, height } with 8-bit RGB or RGBA pixels, or a picture of this platform.',
  );
}

/** Makes frames into the tensors of cut 0 of one model. */
export type PrepareFrame = (frame: ReadFrame) => PreparedFrame;

/**
 * @throws IsthmusError from what it returns: `tensor/shape-mismatch`, `tensor/type-mismatch`, `image/unsupported`
 */
export function createPrepareFrame(manifest: Manifest): PrepareFrame {
  const expected = getCut(manifest, 0).tensors;
  const { preprocess } = manifest;
  let preprocessor: Preprocessor | undefined;
  return (frame) => {
    if (frame.kind === 'tensors') {
      return { tensors: checkFrame(frame.tensors, expected), geometry: undefined };
    }
    if (preprocess === null || expected.length !== 1) {
      throw new IsthmusError(
        'image/unsupported',
        `${manifest.model} does not take a picture; give it ${expected.map(describe).join(', ')}.`,
      );
    }
    preprocessor ??= createPreprocessor(preprocess);
    const tensors = checkFrame(preprocessor(frame.image), expected);
    return { tensors, geometry: describeGeometry(frame.image.width, frame.image.height, preprocess) };
  };
}

function checkFrame(frame: Tensor | NamedTensors, expected: readonly CutTensor[]): NamedTensors {
  const named: NamedTensors =
    isTensor(frame) && expected.length === 1 ? { [expected[0]!.name]: frame } : (frame as NamedTensors);
  const tensors: Record<string, Tensor> = {};
  for (const cutTensor of expected) {
    const value = Object.hasOwn(named, cutTensor.name) ? named[cutTensor.name] : undefined;
    if (!isTensor(value)) {
      throw new IsthmusError(
        'tensor/shape-mismatch',
        `The frame lacks ${cutTensor.name}; it must hold ${expected.map(describe).join(', ')}.`,
      );
    }
    tensors[cutTensor.name] = checkTensor(value, cutTensor);
  }
  return tensors;
}

function checkTensor(value: Tensor, expected: CutTensor): Tensor {
  if (value.type !== expected.type) {
    throw new IsthmusError(
      'tensor/type-mismatch',
      `The frame's ${describe(value)} must be ${describe(expected)}.`,
    );
  }
  const fits =
    value.shape.length === expected.shape.length &&
    value.shape.every((size, axis) => size === expected.shape[axis]) &&
    value.data.length === expected.shape.reduce((count, size) => count * size, 1);
  if (fits) return value;
  throw new IsthmusError(
    'tensor/shape-mismatch',
    `The frame's ${describe(value)} with ${value.data.length} elements must be ${describe(expected)}.`,
  );
}

function describe({
  type,
  shape,
  ...rest
}: {
  type: string;
  shape: readonly number[];
  name?: string;
}): string {
  return `${rest.name === undefined ? '' : `${rest.name}: `}${type}[${shape}]`;
}

function toImage({ data, width, height }: PixelFrame): RawImage {
  const channels = data.length / (width * height);
  if (channels !== 3 && channels !== 4) {
    throw new IsthmusError(
      'image/unsupported',
      `${width}×${height} pixels take ${3 * width * height} bytes as RGB or ${4 * width * height} as RGBA, not ${data.length}.`,
    );
  }
  return { data, width, height, channels };
}

function isTensor(value: unknown): value is Tensor {
  return (
    isObject(value) &&
    typeof value.type === 'string' &&
    Array.isArray(value.shape) &&
    ArrayBuffer.isView(value.data)
  );
}

function isPixels(value: unknown): value is PixelFrame {
  return (
    isObject(value) &&
    (value.data instanceof Uint8Array || value.data instanceof Uint8ClampedArray) &&
    typeof value.width === 'number' &&
    typeof value.height === 'number'
  );
}

function isNamedTensors(value: unknown): value is NamedTensors {
  return isObject(value) && Object.values(value).length > 0 && Object.values(value).every(isTensor);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
