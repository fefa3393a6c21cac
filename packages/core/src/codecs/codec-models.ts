import { IsthmusError, isIsthmusError } from '../errors.js';
import type { FileRef } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import { type CalibratedTables, parseCalibratedTables } from './calibrated/model.js';
import type { CodecContext } from './codec.js';

/** The networks among a codec's files: loaded when first wanted, each once; a failure is not kept. */
export interface CodecModels {
  /**
   * Works with the session of a file. If the runtime's worker died, the model is loaded again and the work done once
   * more.
   *
   * @throws IsthmusError `bundle/invalid` if the entry does not list the file, and the runtime's
   */
  use<Value>(path: string, work: (session: RuntimeSession) => Promise<Value>): Promise<Value>;
  /** Releases what is loaded and not in use. */
  release(): Promise<void>;
}

export function createCodecModels(context: CodecContext): CodecModels {
  const sessions = new Map<string, Promise<RuntimeSession>>();
  const open = async (path: string): Promise<RuntimeSession> =>
    context.runtime.load(await context.readFile(findFile(context, path)));
  const load = (path: string): Promise<RuntimeSession> => {
    const existing = sessions.get(path);
    if (existing !== undefined) return existing;
    const opened = open(path);
    sessions.set(path, opened);
    opened.catch(() => sessions.get(path) === opened && sessions.delete(path));
    return opened;
  };
  return {
    async use(path, work) {
      for (let attempt = 1; ; attempt++) {
        const loaded = load(path);
        try {
          return await work(await loaded);
        } catch (error) {
          if (!isIsthmusError(error, 'runtime/crashed')) throw error;
          if (sessions.get(path) === loaded) sessions.delete(path);
          if (attempt > 1) throw error;
        }
      }
    },
    async release() {
      const loaded = [...sessions.values()];
      sessions.clear();
      // Those of a worker that died have nothing left to give back.
      await Promise.allSettled(loaded.map(async (session) => (await session).release()));
    },
  };
}

/**
 * A codec's tables of integers.
 *
 * @throws IsthmusError `bundle/invalid`
 */
export async function readTables(context: CodecContext, path: string): Promise<CalibratedTables> {
  const { entry } = context;
  const bytes = await context.readFile(findFile(context, path));
  const tables = parseCalibratedTables(new TextDecoder().decode(bytes));
  if (tables.levels.length !== entry.levels.length) throw misfit(context, 'its tables have other levels');
  return tables;
}

/** The error for a codec whose parts do not belong together. */
export function misfit({ entry }: CodecContext, what: string): IsthmusError {
  const remedy = entry.kind === 'learned' ? 'Import it again.' : 'Split again.';
  return new IsthmusError('bundle/invalid', `Codec ${entry.id} contradicts itself: ${what}. ${remedy}`);
}

function findFile(context: CodecContext, path: string): FileRef {
  const file = context.entry.files.find((candidate) => candidate.path === path);
  if (file === undefined) throw misfit(context, `it lacks its file ${path}`);
  return file;
}
