import { IsthmusError, isIsthmusError, toIsthmusError } from '@isthmus/core';
import { type CAC, cac } from 'cac';
import { z } from 'zod';
import { addBenchCommand } from './commands/bench.js';
import { addCodecCommand } from './commands/codec.js';
import { addDemoCommand } from './commands/demo.js';
import { addPullCommand } from './commands/pull.js';
import { addRunCommand } from './commands/run.js';
import { addServeCommand } from './commands/serve.js';
import { addSplitCommand } from './commands/split.js';
import { addTrainCommand } from './commands/train.js';
import { version } from './version.js';

/** What a command may touch of the process around it. */
export interface CliContext {
  out: (text: string) => void;
  /** Progress and problems: never part of the answer. */
  note: (text: string) => void;
  env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first Ctrl-C. */
  signal: AbortSignal;
}

/** What the process exits with: 0 done, 1 failed, 2 used wrongly, 130 interrupted. */
export type ExitCode = 0 | 1 | 2 | 130;

/**
 * Runs one command line.
 *
 * @param args Without node and script: `['split', 'model.onnx', '--out', 'bundle']`.
 */
export async function main(args: readonly string[], context: CliContext): Promise<ExitCode> {
  const cli = cac('isthmus');
  for (const add of [
    addPullCommand,
    addSplitCommand,
    addCodecCommand,
    addTrainCommand,
    addServeCommand,
    addRunCommand,
    addDemoCommand,
    addBenchCommand,
  ]) {
    add(cli, context);
  }
  cli.help();
  cli.version(version);
  try {
    parse(cli, args);
    if (cli.options.help || cli.options.version) return 0;
    await cli.runMatchedCommand();
    return 0;
  } catch (error) {
    if (context.signal.aborted) return 130;
    const known = asUsageError(error);
    // Where --json takes a file, what is printed is for people.
    const json = cli.options.json === true;
    if (json) context.out(JSON.stringify({ error: { code: known.code, message: known.message } }));
    else context.note(`isthmus: ${known.message} [${known.code}]`);
    if (context.env.ISTHMUS_DEBUG) context.note(String((known.cause as Error)?.stack ?? known.stack));
    return known.code === 'usage/invalid' ? 2 : 1;
  }
}

function parse(cli: CAC, args: readonly string[]): void {
  cli.parse(['node', 'isthmus', ...args], { run: false });
  if (cli.matchedCommand === undefined && !cli.options.help && !cli.options.version) {
    const names = cli.commands.map((command) => command.name).join(', ');
    const given = cli.args[0];
    if (given !== undefined) {
      throw new IsthmusError('usage/invalid', `There is no command "${given}". Commands: ${names}.`);
    }
    cli.outputHelp();
    throw new IsthmusError('usage/invalid', `Say which command: ${names}.`);
  }
}

// As it was typed: cac makes minQuality of --min-quality.
function optionName(path: readonly PropertyKey[]): string {
  return path.join('.').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function asUsageError(error: unknown): IsthmusError {
  if (isIsthmusError(error)) return error;
  if (error instanceof z.ZodError) {
    const problems = error.issues.map((issue) => `--${optionName(issue.path)}: ${issue.message}`);
    return new IsthmusError('usage/invalid', `${problems.join('; ')}. See --help.`, { cause: error });
  }
  // cac throws its own error class for unknown options and missing arguments.
  if (error instanceof Error && error.name === 'CACError') {
    return new IsthmusError('usage/invalid', `${error.message}. See --help.`, { cause: error });
  }
  return toIsthmusError(error, 'internal', 'Something went wrong that should not have');
}
