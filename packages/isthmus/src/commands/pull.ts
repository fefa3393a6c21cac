import { IsthmusError } from '@isthmus/core';
import { recipes } from '@isthmus/models';
import { createNodeRuntime } from '@isthmus/runtime/node';
import type { CAC } from 'cac';
import { z } from 'zod';
import type { CliContext } from '../cli.js';
import { createProgress } from '../progress.js';
import { pullModel } from '../pull/pull-model.js';

const optionsSchema = z.object({
  sha256: z.string().optional(),
  cache: z.string().optional(),
  json: z.boolean().default(false),
});

/** `isthmus pull`: weights from where they are published, checked, converted to ONNX, verified. */
export function addPullCommand(cli: CAC, context: CliContext): void {
  cli
    .command('pull [model]', 'Get a model as ONNX; without a name, list the known ones')
    .option('--sha256 <hash>', 'What a file: or https: source must hash to')
    .option('--cache <folder>', "Where models are kept [default: the user's cache folder]")
    .option('--json', 'Print JSON')
    .example('isthmus pull mobilenet-v1')
    .example('isthmus pull https://example.com/model.onnx --sha256 9f86d081…')
    .action(async (model: string | undefined, raw: unknown) => {
      const options = optionsSchema.parse(raw);
      if (model === undefined) return listRecipes(context, options.json);
      const runtime = createNodeRuntime();
      const progress = createProgress(context);
      try {
        const pulled = await pullModel(model, {
          runtime,
          signal: context.signal,
          onProgress: ({ phase, receivedBytes, totalBytes }) => {
            progress.show(`${model}: ${phase}`, receivedBytes, totalBytes);
          },
          ...(options.sha256 !== undefined && { sha256: options.sha256 }),
          ...(options.cache !== undefined && { cacheDir: options.cache }),
        });
        progress.end();
        const { name, modelPath, provenance, fromCache } = pulled;
        if (options.json) context.out(JSON.stringify({ name, modelPath, provenance, fromCache }));
        else {
          const origin = `${provenance.source}, licence ${provenance.licence}`;
          context.out(`${name}: ${modelPath}\n  from ${origin}${fromCache ? ' (was in the cache)' : ''}`);
        }
      } finally {
        progress.end();
        await runtime.close();
      }
    });
}

function listRecipes(context: CliContext, json: boolean): void {
  const known = recipes.map(({ name, description, licence }) => ({ name, description, licence }));
  if (json) context.out(JSON.stringify(known));
  else context.out(known.map((one) => `${one.name}\n  ${one.description} (${one.licence})`).join('\n'));
  if (known.length === 0) throw new IsthmusError('internal', 'No recipe is built in.');
}
