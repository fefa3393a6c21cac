export type { RunResult, Runtime, RuntimeSession } from '@isthmus/core';
