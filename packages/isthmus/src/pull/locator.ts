import { fileURLToPath } from 'node:url';
import { IsthmusError } from '@isthmus/core';

/** What a source given by the user points to. */
export type Locator =
  | { kind: 'recipe'; name: string }
  | { kind: 'file'; path: string; format: ModelFormat; sha256: string }
  | { kind: 'https'; url: string; format: ModelFormat; sha256: string };

export type ModelFormat = 'onnx' | 'tflite' | 'tfjs';

/**
 * Reads a source: a bare name, `file:PATH` (relative or as a file URL), or `https://…`.
 *
 * @throws IsthmusError `usage/invalid`
 */
export function parseSource(source: string, sha256: string | undefined): Locator {
  const scheme = /^([a-z]{2,}):/i.exec(source)?.[1]?.toLowerCase();
  if (scheme === undefined) return { kind: 'recipe', name: source };
  if (scheme !== 'file' && scheme !== 'https') {
    throw new IsthmusError(
      'usage/invalid',
      `${source}: a model comes from file:PATH or https://URL, not from ${scheme}:.`,
    );
  }
  if (sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) {
    throw new IsthmusError(
      'usage/invalid',
      `${source} needs its sha256, as 64 hexadecimal digits in lower case (sha256sum FILE prints it).`,
    );
  }
  const format = formatOf(source);
  if (scheme === 'https') {
    if (format === 'tfjs') {
      throw new IsthmusError(
        'usage/invalid',
        `${source} is one of several files. Download model.json with its weights and pull file:PATH.`,
      );
    }
    return { kind: 'https', url: source, format, sha256 };
  }
  const path = source.startsWith('file://') ? fileURLToPath(source) : source.slice('file:'.length);
  return { kind: 'file', path, format, sha256 };
}

function formatOf(source: string): ModelFormat {
  const path = source.replace(/[?#].*$/, '').toLowerCase();
  if (path.endsWith('.onnx')) return 'onnx';
  if (path.endsWith('.tflite')) return 'tflite';
  if (path.endsWith('.json')) return 'tfjs';
  throw new IsthmusError(
    'usage/invalid',
    `${source} is not known by its ending: models are .onnx, .tflite or model.json of TensorFlow.js.`,
  );
}
