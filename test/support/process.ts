import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const bin = join(import.meta.dirname, '../../packages/isthmus/dist/bin.js');

/** What a finished `isthmus` process said. */
export interface Finished {
  exitCode: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `isthmus` in a process of its own, as a user would, to its end. */
export async function isthmus(args: readonly string[], env: Record<string, string> = {}): Promise<Finished> {
  const child = spawn(process.execPath, [bin, ...args], { env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const [exitCode] = (await once(child, 'close')) as [number | null];
  return { exitCode, stdout, stderr };
}

/** A receiver in a process of its own. */
export interface ReceiverProcess {
  url: string;
  port: number;
  child: ChildProcess;
  /** Ends it without warning, as a crash would. */
  kill(): Promise<void>;
  /** Ends it as an operator would. */
  stop(): Promise<number | null>;
}

/**
 * Starts `isthmus serve` and waits until it is ready.
 *
 * @param prefix A command that runs the command behind it in its own place, as `ip netns exec NAME` does.
 */
export async function serve(
  args: readonly string[],
  prefix: readonly string[] = [],
): Promise<ReceiverProcess> {
  const line = [...prefix, process.execPath, bin, 'serve', ...args, '--json', '--log', 'error'];
  const [command, ...rest] = line as [string, ...string[]];
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const ready = once(createInterface({ input: child.stdout }), 'line') as Promise<[string]>;
  const [first] = await Promise.race([
    ready,
    exited.then(([code]) => {
      throw new Error(`isthmus serve ended with ${code}: ${stderr}`);
    }),
  ]);
  const { url, port } = JSON.parse(first as string) as { url: string; port: number };
  return {
    url,
    port,
    child,
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
    async stop() {
      if (child.exitCode === null) child.kill('SIGTERM');
      return (await exited)[0];
    },
  };
}
