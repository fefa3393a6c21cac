/** The bytes `start` to `end` (exclusive) of a file. */
export interface ByteRange {
  start: number;
  end: number;
}

/**
 * What a `Range` header asks for (RFC 9110, section 14). Undefined means the whole file: no header, one that is
 * malformed, or several ranges, all of which a server may ignore.
 */
export function parseRange(
  header: string | undefined,
  numBytes: number,
): ByteRange | 'unsatisfiable' | undefined {
  const [matched, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '') ?? [];
  if (matched === undefined || (first === '' && last === '')) return undefined;
  if (first === '') {
    const suffix = Math.min(Number(last), numBytes);
    return suffix === 0 ? 'unsatisfiable' : { start: numBytes - suffix, end: numBytes };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return undefined;
  if (start >= numBytes) return 'unsatisfiable';
  return { start, end: last === '' ? numBytes : Math.min(Number(last) + 1, numBytes) };
}
