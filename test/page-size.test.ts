import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { expect, it } from 'vitest';

const limitBytes = 45_000;

it(`is at most ${limitBytes} bytes in a page, gzipped, without ONNX Runtime`, async () => {
  const { outputFiles, metafile } = await build({
    stdin: { contents: `export * from '@isthmus/device';`, resolveDir: import.meta.dirname },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    external: ['onnxruntime-web', 'onnxruntime-web/*'],
    metafile: true,
    write: false,
  });
  const [page] = outputFiles;
  expect(gzipSync(page?.contents ?? '').length).toBeLessThanOrEqual(limitBytes);
  // What only a receiver needs stays out of it.
  const inputs = Object.keys(Object.values(metafile.outputs)[0]?.inputs ?? {});
  expect(inputs.filter((path) => /rans-decoder|plane-decoder|tuned-segments|avif-header/.test(path))).toEqual(
    [],
  );
  expect(inputs.some((path) => path.includes('plane-encoder'))).toBe(true);
});
