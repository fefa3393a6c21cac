import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** An example, started as its `npm start` starts it. */
export interface ExampleProcess {
  /** The next line it prints. Rejects if it ends instead. */
  line(): Promise<string>;
  /** Asks it to end, and gives its exit code and all it printed. */
  stop(): Promise<{ exitCode: number | null; output: string }>;
  /** As `stop`, without asking. */
  finished(): Promise<{ exitCode: number | null; output: string }>;
}

export async function startExample(
  name: string,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<ExampleProcess> {
  const folder = join(import.meta.dirname, '../../examples', name);
  const { scripts } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
    scripts: { start: string };
  };
  const script = /^node (\S+)$/.exec(scripts.start)?.[1];
  if (script === undefined) throw new Error(`${name} starts with ${scripts.start}, not with node.`);
  const child = spawn(process.execPath, [script, ...args], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  let read = 0;
  child.stdout.on('data', (data) => {
    output += data;
  });
  child.stderr.on('data', (data) => {
    errors += data;
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  const finished = async (): Promise<{ exitCode: number | null; output: string }> => {
    const [exitCode] = await closed;
    return { exitCode, output: output + errors };
  };
  return {
    async line() {
      for (;;) {
        const end = output.indexOf('\n', read);
        if (end >= 0) {
          const line = output.slice(read, end);
          read = end + 1;
          return line;
        }
        const more = once(child.stdout, 'data');
        await Promise.race([
          more,
          closed.then(() => Promise.reject(new Error(`${name} ended: ${output}${errors}`))),
        ]);
      }
    },
    finished,
    stop() {
      child.kill('SIGTERM');
      return finished();
    },
  };
}
