import { readFile } from 'node:fs/promises';
import { type NamedTensors, preprocessImage, type Runtime } from '@isthmus/core';
import { type Bundle, splitModel } from '@isthmus/graph';
import { pullModel, pullPhotos } from 'isthmus';
import sharp from 'sharp';

/** A base model, whole and split, and a photograph as its frame. */
export interface BenchModel {
  name: string;
  whole: Uint8Array;
  bundle: Bundle;
  frame: NamedTensors;
}

/** Pulls a model, splits it, and prepares the first photograph for it. */
export async function prepareModel(name: string, runtime: Runtime): Promise<BenchModel> {
  const pulled = await pullModel(name, { runtime });
  if (pulled.preprocess === null) throw new Error(`${name} does not take pictures.`);
  const whole = await readFile(pulled.modelPath);
  const bundle = await splitModel(whole, {
    runtime,
    name,
    provenance: { source: pulled.provenance.source, licence: pulled.provenance.licence },
    preprocess: pulled.preprocess,
    task: pulled.task,
  });
  const photo = (await pullPhotos())[0]!;
  const { data, info } = await sharp(photo.bytes)
    .removeAlpha()
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const image = { data, width: info.width, height: info.height, channels: 3 } as const;
  const input = bundle.manifest.cuts[0]!.tensors[0]!.name;
  return { name, whole, bundle, frame: { [input]: preprocessImage(image, pulled.preprocess) } };
}
