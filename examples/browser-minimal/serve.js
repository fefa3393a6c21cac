import { fileURLToPath } from 'node:url';
import { context } from 'esbuild';

const folder = fileURLToPath(new URL('.', import.meta.url));

const bundle = await context({
  absWorkingDir: folder,
  entryPoints: [
    'main.ts',
    'index.html',
    // ONNX Runtime looks for its WebAssembly next to the script: the build for CPUs, and that with WebGPU.
    { in: 'onnxruntime-web/ort-wasm-simd-threaded.wasm', out: 'ort-wasm-simd-threaded' },
    { in: 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm', out: 'ort-wasm-simd-threaded.asyncify' },
  ],
  loader: { '.html': 'copy', '.wasm': 'copy' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  minify: true,
});
const { port } = await bundle.serve({
  servedir: 'dist',
  host: '127.0.0.1',
  port: Number(process.env.PORT ?? 8080),
});
console.log(`http://localhost:${port}`);
