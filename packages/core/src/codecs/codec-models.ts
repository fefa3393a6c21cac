import { IsthmusError, isIsthmusError } from '../errors.js';
import type { FileRef } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import type { NamedTensors, Tensor } from '../tensor.js';
import { type CalibratedTables, parseCalibratedTables } from './calibrated/model.js';
import type { CodecContext, DecodeWatch } from './codec.js';
import type { PlainTensor } from './plain-tensors.js';
import { checkTensor } from './raw.js';

/** The networks among a codec's files: loaded when first wanted, each once; a failure is not kept. */
export interface CodecModels {
  /**
   * Works with the session of a file. If the runtime's worker died, the model is loaded again and the work done once
   * more.
   *
   * @throws IsthmusError `bundle/invalid` if the entry does not list the file, the runtime's, and what `watch` throws
   */
  use<Value>(
    path: string,
    work: (session: RuntimeSession) => Promise<Value>,
    watch?: DecodeWatch,
  ): Promise<Value>;
  /** Releases what is loaded and not in use. */
  release(): Promise<void>;
}

/** @param read The bytes of a model. @default the codec's file of that path */
export function createCodecModels(
  context: CodecContext,
  read: (path: string) => Promise<Uint8Array> = (path) => context.readFile(findFile(context, path)),
): CodecModels {
  const sessions = new Map<string, Promise<RuntimeSession>>();
  const open = async (path: string): Promise<RuntimeSession> => context.runtime.load(await read(path));
  const load = (path: string): Promise<RuntimeSession> => {
    const existing = sessions.get(path);
    if (existing !== undefined) return existing;
    const opened = open(path);
    sessions.set(path, opened);
    opened.catch(() => sessions.get(path) === opened && sessions.delete(path));
    return opened;
  };
  return {
    async use(path, work, watch) {
      for (let attempt = 1; ; attempt++) {
        const loaded = load(path);
        try {
          if (watch === undefined) return await work(await loaded);
          const session = await watch.wait(
            () => loaded,
            () => 0,
          );
          return await work(watched(session, watch));
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

function watched(session: RuntimeSession, watch: DecodeWatch): RuntimeSession {
  const { inputNames, outputNames } = session;
  return {
    inputNames,
    outputNames,
    run: (feeds, fetches) =>
      watch.wait(
        () => session.run(feeds, fetches),
        ({ durationMs }) => durationMs,
      ),
    release: () => session.release(),
  };
}

/**
 * What a network gave, if it is what was expected of it.
 *
 * @throws IsthmusError `bundle/invalid`
 */
export function fitting(
  context: CodecContext,
  network: 'encoder' | 'decoder' | 'adapter',
  outputs: NamedTensors,
  expected: PlainTensor,
): Tensor {
  try {
    return checkTensor(outputs[expected.name], expected);
  } catch (error) {
    if (isIsthmusError(error)) throw misfit(context, `of its ${network}, ${error.message}`);
    throw error;
  }
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
  const remedy = ['learned', 'adapted'].includes(entry.kind) ? 'Import it again.' : 'Split again.';
  return new IsthmusError('bundle/invalid', `Codec ${entry.id} contradicts itself: ${what}. ${remedy}`);
}

/** @throws IsthmusError `bundle/invalid` if the entry does not list the file */
export function findFile(context: CodecContext, path: string): FileRef {
  const file = context.entry.files.find((candidate) => candidate.path === path);
  if (file === undefined) throw misfit(context, `it lacks its file ${path}`);
  return file;
}
