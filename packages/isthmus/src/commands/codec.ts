import { IsthmusError } from '@isthmus/core';
import type { CAC } from 'cac';
import { removeCodecFromFolder } from '../bundle-codecs.js';
import type { CliContext } from '../cli.js';
import { codecImport } from './codec-import.js';

/** `isthmus codec`: codecs into a bundle that was split before, and out of it. */
export function addCodecCommand(cli: CAC, context: CliContext): void {
  cli
    .command(
      'codec <what> <bundle> [name]',
      "import: a trained encoder and decoder into a bundle's folder; remove: a codec out of it",
    )
    .option('--encoder <file>', "ONNX, from the cut's float32 tensors to `latent` [1, C, H, W]")
    .option(
      '--decoder <file>',
      'ONNX, from `latent`, and `level` if it likes, to all tensors of the other cut',
    )
    .option('--from <cut>', 'Where the encoder takes its tensors')
    .option('--to <cut>', "Where the decoder's are put in [default: the same cut]")
    .option('--images <folder>', 'Pictures that the codec was not trained on, to fit tables and to measure')
    .option('--limit <n>', 'Take so many pictures, evenly spaced [default: 100]')
    .option('--tables <file>', "The integer coder's tables [default: fitted to the pictures]")
    .option('--steps <list>', 'Steps of the quantizer, the finest first, as in 0.25,0.5,1 [default: chosen]')
    .option('--name <name>', "The codec's name in the bundle [default: learned-FROM or learned-FROM-TO]")
    .option('--threads <n>', 'Threads of ONNX Runtime [default: its own choice]')
    .option('--json', 'Print JSON')
    .example(
      'isthmus codec import bundles/mobilenet-v1 --encoder e.onnx --decoder d.onnx --from 3 --images photos',
    )
    .example('isthmus codec remove bundles/mobilenet-v1 learned-3')
    .action(
      async (
        what: string,
        bundle: string,
        name: string | undefined,
        raw: Readonly<Record<string, unknown>>,
      ) => {
        if (what === 'import' && name === undefined) return codecImport(bundle, raw, context);
        if (what === 'import') {
          throw new IsthmusError('usage/invalid', `What is "${name}"? A codec's name goes in --name.`);
        }
        if (what !== 'remove') {
          throw new IsthmusError('usage/invalid', `A codec can be imported or removed, not "${what}".`);
        }
        const foreign = Object.keys(raw).filter((option) => option !== '--' && option !== 'json');
        if (foreign.length > 0) {
          const names = foreign.map((option) => `--${option}`).join(', ');
          throw new IsthmusError('usage/invalid', `isthmus codec remove does not take ${names}. See --help.`);
        }
        if (name === undefined) {
          throw new IsthmusError(
            'usage/invalid',
            'Say which codec, as in: isthmus codec remove BUNDLE learned-3',
          );
        }
        await removeCodecFromFolder(bundle, String(name));
        context.out(
          raw.json === true ? JSON.stringify({ removed: name }) : `${name} is no longer in ${bundle}.`,
        );
      },
    );
}
