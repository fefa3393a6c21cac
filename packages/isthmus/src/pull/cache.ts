import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Preprocess, Provenance, Task } from '@isthmus/core';
import { hashFile, onDisk, privateName, writeDurably } from './disk.js';

/** Where a pulled model came from, in full. */
export interface PullProvenance extends Provenance {
  /** Where the bytes were read: `npm:NAME@VERSION`, an address or a path. */
  url: string;
  /** Subresource integrity or sha256 of what was read, as it was checked. */
  integrity: string;
  /** ISO 8601 time of the conversion. */
  convertedAt: string;
}

/** What the cache keeps about a model beside its ONNX file, as provenance.json. */
export interface ModelRecord {
  format: 'isthmus-model';
  version: 1;
  name: string;
  provenance: PullProvenance;
  preprocess: Preprocess | null;
  task: Task;
}

export interface CachedModel {
  modelPath: string;
  record: ModelRecord;
}

/** The model in a cache folder; undefined if it is not there or not what was put there. */
export async function readCached(folder: string): Promise<CachedModel | undefined> {
  const modelPath = join(folder, 'model.onnx');
  try {
    const record = JSON.parse(await readFile(join(folder, 'provenance.json'), 'utf8')) as ModelRecord;
    if (record.format !== 'isthmus-model' || record.version !== 1) return undefined;
    const digest = await hashFile(modelPath, 'sha256');
    return digest.toString('hex') === record.provenance.sha256 ? { modelPath, record } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Puts a model into its cache folder. Both files are complete on the disk before the folder gets its name, so
 * whoever finds the folder finds a whole model.
 *
 * @throws IsthmusError `pull/disk`
 */
export async function writeCached(
  folder: string,
  model: Uint8Array,
  record: ModelRecord,
): Promise<CachedModel> {
  const mine = privateName(folder);
  return onDisk(folder, async () => {
    try {
      await mkdir(mine, { recursive: true });
      await writeDurably(join(mine, 'model.onnx'), model);
      await writeDurably(join(mine, 'provenance.json'), `${JSON.stringify(record, null, 1)}\n`);
      try {
        await rename(mine, folder);
      } catch (error) {
        // Another process put the model there meanwhile, unless what is there is damaged.
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'EPERM') throw error;
        const theirs = await readCached(folder);
        if (theirs !== undefined) return theirs;
        await rm(folder, { recursive: true, force: true });
        await rename(mine, folder);
      }
      return { modelPath: join(folder, 'model.onnx'), record };
    } finally {
      await rm(mine, { recursive: true, force: true });
    }
  });
}
