import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { IsthmusError } from '@isthmus/core';

/** Another `isthmus` process, whose standard output is lines of JSON. */
export interface JsonProcess {
  /** Objects as they are printed; ends when the process closes its output. */
  lines: AsyncIterable<Record<string, unknown>>;
  /** Asks the process to end, and waits until it has. */
  stop(): Promise<void>;
  /** Waits for the end by itself. @throws IsthmusError `internal` if it failed, with what it said */
  finished(): Promise<void>;
}

const bin = new URL('../bin.js', import.meta.url).pathname;
// What is kept of a process's messages, to tell why it failed.
const maxNotes = 50;

/** Starts `isthmus` with these arguments, in a process of its own. */
export function startProcess(args: readonly string[], signal: AbortSignal): JsonProcess {
  const child = spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  exited.catch(() => {});
  const notes: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => {
    notes.push(line);
    if (notes.length > maxNotes) notes.shift();
  });
  const stop = async (): Promise<void> => {
    if (isRunning(child)) child.kill('SIGTERM');
    await exited;
  };
  signal.addEventListener('abort', () => void stop(), { once: true });
  return {
    lines: parseLines(child),
    stop,
    async finished() {
      const [code] = await exited;
      if (code !== 0) {
        throw new IsthmusError(
          'internal',
          `isthmus ${args[0]} failed: ${notes.join('\n') || `exit code ${code}`}`,
        );
      }
    },
  };
}

/** The first line a process prints. @throws IsthmusError `internal` if it ends before */
export async function firstLine(started: JsonProcess): Promise<Record<string, unknown>> {
  for await (const line of started.lines) return line;
  await started.finished();
  throw new IsthmusError('internal', 'The process ended without a word.');
}

async function* parseLines(child: ChildProcess): AsyncGenerator<Record<string, unknown>> {
  for await (const line of createInterface({ input: child.stdout! })) {
    yield JSON.parse(line) as Record<string, unknown>;
  }
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}
