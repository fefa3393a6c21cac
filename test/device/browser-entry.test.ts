import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { expect, test } from 'vitest';

test('the browser entry needs nothing of Node, however it is bundled', async () => {
  const result = await build({
    entryPoints: [fileURLToPath(import.meta.resolve('@isthmus/device').replace('node.js', 'browser.js'))],
    bundle: true,
    platform: 'browser',
    format: 'esm',
    write: false,
    metafile: true,
    // Loaded on demand, and a matter of its own.
    external: ['onnxruntime-web', 'onnxruntime-web/*'],
    logLevel: 'silent',
  });
  // esbuild fails on an import of a Node module; what is left must not name one in another way.
  const inputs = Object.keys(result.metafile.inputs);
  expect(inputs.some((path) => path.includes('device/dist/connect.js'))).toBe(true);
  expect(inputs.filter((path) => /onnxruntime-node|\/sharp\/|\/ws\/|runtime\/dist\/node/.test(path))).toEqual(
    [],
  );
  expect(result.outputFiles[0]!.text).not.toMatch(/["']node:|require\(/);
});

test('the package gives browsers the browser entry', async () => {
  const result = await build({
    stdin: { contents: "export * from '@isthmus/device'", resolveDir: import.meta.dirname },
    bundle: true,
    platform: 'browser',
    format: 'esm',
    write: false,
    external: ['onnxruntime-web', 'onnxruntime-web/*'],
    logLevel: 'silent',
  });
  expect(result.outputFiles[0]!.text).toContain('createPageCache');
});
