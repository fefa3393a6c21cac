import {
  type CalibratedTables,
  type CodecEntry,
  type CodecKind,
  type CodecLevel,
  type FileRef,
  formatCalibratedTables,
  sha256Hex,
} from '@isthmus/core';

/** A codec to be added to a bundle: what the manifest says of it, and its files by path. */
export interface BuiltCodec {
  entry: CodecEntry;
  files: ReadonlyMap<string, Uint8Array>;
}

/** A codec of one path, made of tables of integers, networks and so on. Paths of files are the codec kind's to say. */
export async function buildCodec(options: {
  id: string;
  kind: Pick<CodecKind, 'kind' | 'version'>;
  path: { from: number; to: number };
  levels: CodecLevel[];
  /** @default none */
  tables?: readonly [path: string, tables: CalibratedTables];
  networks: readonly (readonly [path: string, bytes: Uint8Array])[];
}): Promise<BuiltCodec> {
  const { id, kind, path, levels, networks } = options;
  const { tables } = options;
  const own = tables && [[tables[0], new TextEncoder().encode(formatCalibratedTables(tables[1]))] as const];
  const files = new Map<string, Uint8Array>([...(own ?? []), ...networks]);
  const refs: FileRef[] = [];
  for (const [file, bytes] of files) {
    refs.push({ path: file, numBytes: bytes.byteLength, sha256: await sha256Hex(bytes) });
  }
  const entry: CodecEntry = {
    id,
    kind: kind.kind,
    version: kind.version,
    paths: [path],
    levels,
    tablesSha256: tables === undefined ? null : refs[0]!.sha256,
    files: refs,
  };
  return { entry, files };
}
