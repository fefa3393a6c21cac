import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { type BundleContents, writeBundle } from 'isthmus';

export interface ReceiverProcess {
  url: string;
  stop(): Promise<void>;
}

/** `isthmus serve` in a process of its own, with these bundles. */
export async function startReceiver(bundles: readonly BundleContents[]): Promise<ReceiverProcess> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-bench-'));
  const paths = bundles.map(({ manifest }) => join(folder, manifest.model));
  for (const [index, path] of paths.entries()) await writeBundle(path, bundles[index]!);
  const bin = join(dirname(createRequire(import.meta.url).resolve('isthmus')), 'bin.js');
  const child = spawn(process.execPath, [bin, 'serve', ...paths, '--port', '0', '--json', '--log', 'error'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const line = once(createInterface({ input: child.stdout }), 'line');
  const failed = exited.then(([code]) => Promise.reject(new Error(`The receiver ended with ${code}.`)));
  failed.catch(() => {});
  const [ready] = (await Promise.race([line, failed])) as [string];
  return {
    url: (JSON.parse(ready) as { url: string }).url,
    async stop() {
      child.kill('SIGTERM');
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
