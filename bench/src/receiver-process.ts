import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { type BundleContents, writeBundle } from 'isthmus';

export interface ReceiverProcess {
  url: string;
  /** The processor's time it has used; 0 where the system does not tell (anything but Linux). */
  cpuMs(): number;
  stop(): Promise<void>;
}

/** `isthmus serve` in a process of its own, with these bundles. */
export async function startReceiver(
  bundles: readonly BundleContents[],
  threads: number | undefined,
): Promise<ReceiverProcess> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-bench-'));
  const paths = bundles.map(({ manifest }) => join(folder, manifest.model));
  for (const [index, path] of paths.entries()) await writeBundle(path, bundles[index]!);
  const receiver = await serveFolders(paths, threads);
  return {
    ...receiver,
    async stop() {
      await receiver.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The same with bundles that lie in folders. */
export async function serveFolders(
  paths: readonly string[],
  threads: number | undefined,
): Promise<ReceiverProcess> {
  const bin = join(dirname(createRequire(import.meta.url).resolve('isthmus')), 'bin.js');
  const options = [
    '--port',
    '0',
    '--json',
    '--log',
    'error',
    ...(threads === undefined ? [] : ['--threads', `${threads}`]),
  ];
  const child = spawn(process.execPath, [bin, 'serve', ...paths, ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const line = once(createInterface({ input: child.stdout }), 'line');
  const failed = exited.then(([code]) => Promise.reject(new Error(`The receiver ended with ${code}.`)));
  failed.catch(() => {});
  const [ready] = (await Promise.race([line, failed])) as [string];
  return {
    url: (JSON.parse(ready) as { url: string }).url,
    cpuMs: () => cpuMsOf(child.pid!),
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

// Nanoseconds on a processor, thread by thread (https://docs.kernel.org/scheduler/sched-stats.html).
function cpuMsOf(pid: number): number {
  if (process.platform !== 'linux') return 0;
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).reduce((sum, task) => {
    const [nanoseconds] = readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ');
    return sum + Number(nanoseconds) / 1e6;
  }, 0);
}
