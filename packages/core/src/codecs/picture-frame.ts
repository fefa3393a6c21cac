import * as v from 'valibot';
import { IsthmusError } from '../errors.js';
import { type CutTensor, getCut, type Preprocess } from '../manifest.js';
import { integerFrom, parseAs } from '../schema.js';
import { createTensor, type Tensor } from '../tensor.js';
import { type CodecContext, type CodecPath, corrupt, type Decoder, type Encoder, getLevel } from './codec.js';
import { type PictureFormat, type PictureSize, pictureFormats, readPictureSize } from './picture-header.js';
import { checkTensor } from './raw.js';

/** A platform's picture encoders: all that a device needs. */
export interface PictureEncoder {
  /**
   * Makes sure that the format can be had, before the first frame needs it.
   *
   * @throws IsthmusError `codec/unknown` if this platform cannot encode, or decode, the format;
   * `runtime/unavailable` if what it takes is not installed.
   */
  prepare(format: PictureFormat, direction: 'encode' | 'decode'): Promise<void>;
  /**
   * @param rgb Interleaved 8-bit RGB, row by row.
   * @param quality 1…100, as encoders count it.
   */
  encode(
    rgb: Uint8Array,
    width: number,
    height: number,
    format: PictureFormat,
    quality: number,
  ): Promise<Uint8Array>;
}

/** A platform's picture encoders and decoders. */
export interface PictureCoder extends PictureEncoder {
  /**
   * Interleaved 8-bit RGB.
   *
   * @param limits The size the picture must have; more must not be allocated.
   * @throws whatever, if it does not decode
   */
  decode(bytes: Uint8Array, format: PictureFormat, limits: PictureSize): Promise<Uint8Array>;
}

const params = v.object({
  format: v.picklist(pictureFormats),
  quality: integerFrom(1, 100),
});

// Metadata of the format around the picture.
const maxOverheadBytes = 4096;

/**
 * Encodes the tensor of cut 0 as a picture file, at the format and quality of the level.
 *
 * @throws IsthmusError `bundle/invalid` for bundles that do not take pictures; `codec/unknown`, `runtime/unavailable` if a
 * format cannot be had
 */
export async function createPictureEncoder(
  context: CodecContext,
  pictures: PictureEncoder,
): Promise<Encoder> {
  const frame = describeFrame(context);
  for (const format of frame.formats) await pictures.prepare(format, 'encode');
  return {
    async encode(tensors, path) {
      const { format, quality } = levelOf(context, path);
      const { width, height } = frame.preprocess;
      const value = checkTensor(tensors[frame.tensor.name], frame.tensor) as Tensor<'float32'>;
      const rgb = toPixels(value, frame.preprocess, frame.tensor.name);
      return pictures.encode(rgb, width, height, format, quality);
    },
  };
}

/** Decodes a picture file to the tensor of cut 0. @throws IsthmusError as {@link createPictureEncoder} */
export async function createPictureDecoder(context: CodecContext, pictures: PictureCoder): Promise<Decoder> {
  const frame = describeFrame(context);
  const { width, height } = frame.preprocess;
  for (const format of frame.formats) await pictures.prepare(format, 'decode');
  return {
    // No encoder comes near 32 bits for each of a pixel's channels.
    maxPayloadBytes: () => 12 * width * height + maxOverheadBytes,
    async decode(payload, path) {
      const { format } = levelOf(context, path);
      const size = readPictureSize(payload, format);
      if (size?.width !== width || size.height !== height) {
        const what = size === undefined ? `it is no ${format}` : `it is ${size.width}×${size.height}`;
        throw corrupt(context.entry, `${what}, not a ${format} of ${width}×${height} with three channels`);
      }
      const rgb = await pictures.decode(payload, format, { width, height }).catch((cause) => {
        throw corrupt(context.entry, 'the picture does not decode', cause);
      });
      if (rgb.length !== 3 * width * height) throw corrupt(context.entry, 'it has other pixels than it says');
      return { [frame.tensor.name]: fromPixels(rgb, frame.preprocess) };
    },
  };
}

interface FrameDescription {
  preprocess: Preprocess;
  tensor: CutTensor;
  formats: ReadonlySet<PictureFormat>;
}

function describeFrame({ manifest, entry }: CodecContext): FrameDescription {
  const levels = entry.levels.map((level) => parseAs(params, level.params));
  if (!levels.every((level) => level.ok)) {
    throw new IsthmusError('bundle/invalid', `Codec ${entry.id} has an unknown level.`);
  }
  const { preprocess } = manifest;
  const [tensor, ...others] = getCut(manifest, 0).tensors;
  const isFrame =
    preprocess !== null &&
    others.length === 0 &&
    tensor!.type === 'float32' &&
    `${tensor!.shape}` === `1,3,${preprocess.height},${preprocess.width}` &&
    entry.paths.every(({ from }) => from === 0);
  if (!isFrame) {
    throw new IsthmusError(
      'bundle/invalid',
      `Codec ${entry.id} carries pictures from cut 0, but ${manifest.model} does not take one there.`,
    );
  }
  return { preprocess, tensor: tensor!, formats: new Set(levels.map(({ value }) => value.format)) };
}

const levelOf = ({ entry }: CodecContext, path: CodecPath): v.InferOutput<typeof params> =>
  v.parse(params, getLevel(entry, path).params);

// Where each channel of interleaved RGB lies in the tensor.
const planeOf = (channel: number, { colorOrder }: Preprocess): number =>
  colorOrder === 'rgb' ? channel : 2 - channel;

function toPixels({ data }: Tensor<'float32'>, preprocess: Preprocess, name: string): Uint8Array {
  const numPixels = preprocess.width * preprocess.height;
  const rgb = new Uint8Array(3 * numPixels);
  for (let channel = 0; channel < 3; channel++) {
    const plane = planeOf(channel, preprocess);
    const [mean, std] = [preprocess.mean[plane]!, preprocess.std[plane]!];
    for (let i = 0, from = plane * numPixels, to = channel; i < numPixels; i++, from++, to += 3) {
      const value = data[from]! * std + mean;
      if (!Number.isFinite(value)) {
        throw new IsthmusError('tensor/not-finite', `${name} holds NaN or infinity; check the frame.`);
      }
      rgb[to] = Math.min(255, Math.max(0, value)) + 0.5;
    }
  }
  return rgb;
}

function fromPixels(rgb: Uint8Array, preprocess: Preprocess): Tensor<'float32'> {
  const { width, height, mean, std } = preprocess;
  const values = new Float32Array(3 * width * height);
  for (let channel = 0; channel < 3; channel++) {
    const plane = planeOf(channel, preprocess);
    const table = Float32Array.from({ length: 256 }, (_, pixel) => (pixel - mean[plane]!) / std[plane]!);
    for (let i = plane * width * height, from = channel; from < rgb.length; i++, from += 3) {
      values[i] = table[rgb[from]!]!;
    }
  }
  return createTensor('float32', [1, 3, height, width], values);
}
