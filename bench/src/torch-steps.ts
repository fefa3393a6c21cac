import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** PyTorch in a process of its own, which takes a step when it is told to. */
export interface TorchSteps {
  version: string;
  /** Milliseconds by the clock, and of that process's processor time. */
  step(): Promise<{ total: number; cpu: number }>;
  stop(): void;
}

// Beside the sources, since nothing is compiled.
const script = fileURLToPath(new URL('../src/torch_steps.py', import.meta.url));

/** Starts the net of that name in a Python that has PyTorch. */
export async function startTorch(python: string, net: string, threads: number): Promise<TorchSteps> {
  const child = spawn(python, [script, net, String(threads)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`${python} ${script} ended. Does that Python have PyTorch?`);
    return JSON.parse(String(value));
  };
  const { version } = (await next()) as { version: string };
  return {
    version,
    async step() {
      child.stdin.write('\n');
      return (await next()) as { total: number; cpu: number };
    },
    stop: () => child.stdin.end(),
  };
}
