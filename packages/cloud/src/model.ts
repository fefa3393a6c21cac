import {
  type CodecEntry,
  type CodecKind,
  type Decoder,
  findCodecKind,
  getCut,
  getLevel,
  IsthmusError,
  isIsthmusError,
  type RequestHeader,
  type Runtime,
  requestHeaderBytes,
} from '@isthmus/core';
import type { Bundle } from './bundle-store.js';

/** A bundle with the decoders of its codecs. */
export interface ServedModel {
  readonly id: string;
  readonly bundle: Bundle;
  /** By index in the manifest; undefined where this receiver does not know the kind, or lacks what it takes. */
  readonly decoders: readonly (Decoder | undefined)[];
}

/** @param onUnknown Told of each codec that cannot be used. */
export async function serveModel(
  bundle: Bundle,
  kinds: readonly CodecKind[],
  runtime: Runtime,
  onUnknown: (entry: CodecEntry, reason: string) => void,
): Promise<ServedModel> {
  const { manifest, readFile } = bundle;
  const decoders: (Decoder | undefined)[] = [];
  for (const entry of manifest.codecs) {
    try {
      const kind = findCodecKind(kinds, entry);
      decoders.push(await kind.createDecoder({ manifest, entry, readFile, runtime }));
    } catch (error) {
      const isMissing =
        isIsthmusError(error, 'codec/unknown') || isIsthmusError(error, 'runtime/unavailable');
      if (!isMissing) throw error;
      decoders.push(undefined);
      onUnknown(entry, error.message);
    }
  }
  return { id: manifest.model, bundle, decoders };
}

/** The decoder a request asks for. @throws IsthmusError `codec/unknown` */
export function getDecoder(model: ServedModel, header: RequestHeader): Decoder {
  const decoder = model.decoders[header.codec];
  if (decoder === undefined) {
    throw new IsthmusError(
      'codec/unknown',
      `${model.id} has no codec ${header.codec} that this receiver knows; see the codecs of its accept message.`,
    );
  }
  return decoder;
}

/**
 * Whether a request can be answered at all, from its header alone.
 *
 * @returns the whole packet's length in bytes.
 * @throws IsthmusError `bundle/no-such-cut`, `codec/unknown`, `codec/no-such-path`, `codec/no-such-level`,
 * `wire/too-large`
 */
export function checkRequest(model: ServedModel, header: RequestHeader, maxPacketBytes: number): number {
  const { manifest } = model.bundle;
  getCut(manifest, header.from);
  getCut(manifest, header.to);
  const decoder = getDecoder(model, header);
  getLevel(manifest.codecs[header.codec]!, header);
  const packetBytes = requestHeaderBytes + header.payloadBytes;
  const maxBytes = Math.min(maxPacketBytes, requestHeaderBytes + decoder.maxPayloadBytes(header));
  if (packetBytes > maxBytes) {
    throw new IsthmusError(
      'wire/too-large',
      `This request has ${packetBytes} bytes; at most ${maxBytes} are possible here.`,
      { details: { numBytes: packetBytes, maxBytes } },
    );
  }
  return packetBytes;
}

// A frame that takes so many times what the bundle's pictures took is not like them.
const oversizedFactor = 2;

/** The codec of a request, if its payload is much larger than it should be, or no smaller than the tensors are. */
export function oversizedCodec({ bundle: { manifest } }: ServedModel, header: RequestHeader): string | null {
  const entry = manifest.codecs[header.codec];
  if (entry === undefined || entry.kind === 'raw') return null;
  const path = entry.paths.findIndex(({ from, to }) => from === header.from && to === header.to);
  const usual = entry.measured?.[path]?.[header.level]?.numBytes ?? Infinity;
  const most = Math.min(oversizedFactor * usual, getCut(manifest, header.from).numBytes);
  return header.payloadBytes >= most ? entry.id : null;
}
