import { IsthmusError } from '@isthmus/core';
import type { CAC } from 'cac';
import type { CliContext } from '../cli.js';
import { codecBench } from './bench-codec.js';
import { linkBench } from './bench-link.js';
import { rdBench } from './bench-rd.js';

/** One of the benchmarks of `isthmus bench`. */
export interface Bench {
  /** The options it takes, of all those of the command. */
  options: readonly string[];
  /** @param raw What was on the command line, not yet checked. */
  run(raw: unknown, context: CliContext): Promise<void>;
}

/** What can be measured, by name. */
const benches: Readonly<Record<string, Bench>> = {
  rd: rdBench,
  codec: codecBench,
  link: linkBench,
};

/** `isthmus bench`: measurements of models on your own pictures. */
export function addBenchCommand(cli: CAC, context: CliContext): void {
  cli
    .command(
      'bench <what>',
      'rd: bits per pixel against accuracy, for every codec at every cut; codec: bytes and speed of every entropy coder; link: the controller over traces of links',
    )
    .option('--bundle <name|folder>', 'A bundle, or a model known to pull, which is split first')
    .option('--images <folder>', 'Pictures, also in folders below it [codec: default: 8 photographs]')
    .option('--labels <file>', 'file,label as CSV with a header; 0-based [default: agreement with the model]')
    .option('--boxes <file>', 'For detection: file,label,x,y,width,height [default: what the model finds]')
    .option('--limit <n>', 'At most so many pictures, evenly spaced [codec: default: 8]')
    .option('--methods <list>', 'Codecs, as in jpeg,webp,quantized [default: all of the bundle]')
    .option('--with <file>', 'rd: an earlier result over the same pictures, to add to; several times')
    .option('--bits <list>', 'codec: bits of a value [default: 8,4,2]')
    .option('--rounds <n>', 'codec: how often everything is timed [default: 11]')
    .option('--json <file>', 'Where the result goes')
    .option('--html <file>', 'Where a page with the curves goes')
    .option('--frames <file>', "rd: where every single frame's bytes and answers go; link: such a file")
    .option('--trace <file>', 'link: Mahimahi, "seconds Mbit/s" lines, JSON, or synthetic:lte; several times')
    .option('--policy <name>', 'link: controller, oracle, fixed:CUT/CODEC/LEVEL, … [default: all kinds]')
    .option('--deadline <ms>', 'link: from capture to answer; several times [default: 100]')
    .option('--fps <n>', 'link: frames per second [default: 10]')
    .option('--device-slowdown <factor>', "link: how much slower than the bundle's profile [default: 10]")
    .option('--cloud-slowdown <factor>', 'link: the same for the cloud [default: 1]')
    .option('--max-device-cut <n>', 'link: the deepest cut the device may run to [default: the last]')
    .option('--delay <ms>', 'link: one way [default: what the trace says, or 20]')
    .option('--duration <s>', 'link: of each trace [default: its own, at most 300; 200 where synthetic]')
    .option('--seed <n>', 'link: of all that is random [default: 1]')
    .option('--threads <n>', 'Threads of ONNX Runtime [default: its own choice]')
    .option('--cache <folder>', "Where pulled models are kept [default: the user's cache folder]")
    .example('isthmus bench rd --bundle mobilenet-v1 --images photos --labels labels.csv --json rd.json')
    .example('isthmus bench codec --bundle mobilenet-v1 --json codec.json')
    .example('isthmus bench link --bundle bundle --trace synthetic:lte --deadline 200 --json link.json')
    .action(async (what: string, raw: Readonly<Record<string, unknown>>) => {
      const bench = Object.hasOwn(benches, what) ? benches[what] : undefined;
      if (bench === undefined) {
        const names = Object.keys(benches).join(', ');
        throw new IsthmusError('usage/invalid', `There is no benchmark "${what}"; there are: ${names}.`);
      }
      const foreign = Object.keys(raw).filter((name) => name !== '--' && !bench.options.includes(name));
      if (foreign.length > 0) {
        const names = foreign.map((name) => `--${name}`).join(', ');
        throw new IsthmusError('usage/invalid', `isthmus bench ${what} does not take ${names}. See --help.`);
      }
      await bench.run(raw, context);
    });
}
