import type { CodecEntry, FileRef } from '../manifest.js';

/** The half of a codec that runs on the device, or the one that runs in the cloud. */
export type CodecHalf = 'encoder' | 'decoder';

// What a coder makes of the integer tables: prices of values, and, to decode, whose each slot of each table is.
const layoutBytes: Readonly<Record<CodecHalf, number>> = { encoder: 131_072, decoder: 2_621_440 };

/**
 * The files that one half of a codec may need, by their names: `codecs/ID/encoder.onnx`, `encoder-1.onnx` only the
 * encoder, `tables.json` both, any other only the decoder.
 */
function filesOfHalf({ files }: CodecEntry, half: CodecHalf): FileRef[] {
  return files.filter(({ path }) => {
    const name = path.split('/').at(-1) ?? '';
    const isOfEncoder = name.startsWith('encoder');
    return half === 'encoder' ? isOfEncoder || name.startsWith('tables') : !isOfEncoder;
  });
}

/**
 * Bytes of memory that one half of a codec takes once it has been used: its networks' weights and its tables, as the
 * manifest tells before anything is fetched. An estimate, as that of spans is; 0 for codecs without files.
 */
export function codecBytes(entry: CodecEntry, half: CodecHalf): number {
  const files = filesOfHalf(entry, half).reduce((sum, { numBytes }) => sum + numBytes, 0);
  return files + (entry.tablesSha256 === null ? 0 : layoutBytes[half]);
}
