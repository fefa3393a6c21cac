import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['packages/*/src/**/*.test.ts', 'models/src/**/*.test.ts', 'test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 180_000,
    // Tests start real receivers and ONNX Runtime sessions; more than two at once only fight for the cores.
    maxWorkers: 2,
    coverage: { provider: 'v8', include: ['packages/*/src/**', 'models/src/**'] },
  },
});
