import { vi } from 'vitest';
import { main } from '../cli.js';

/** What a command line came to. */
export interface CommandEnd {
  exitCode: number;
  out: string;
  notes: string;
}

/** Runs a command line in this process; what cac prints by itself is caught as well. */
export function run(...args: string[]): Promise<CommandEnd> {
  return runUntil(new AbortController().signal, ...args);
}

/** The same, interrupted by the signal. */
export function runUntil(signal: AbortSignal, ...args: string[]): Promise<CommandEnd> {
  return runWith(signal, () => {}, args);
}

/** The same, interrupted as soon as it notes something. */
export function runUntilNote(pattern: RegExp, ...args: string[]): Promise<CommandEnd> {
  const controller = new AbortController();
  return runWith(controller.signal, (text) => pattern.test(text) && controller.abort(), args);
}

async function runWith(
  signal: AbortSignal,
  onNote: (text: string) => void,
  args: string[],
): Promise<CommandEnd> {
  const out: string[] = [];
  const notes: string[] = [];
  const info = vi.spyOn(console, 'info').mockImplementation((text: string) => void out.push(text));
  const log = vi.spyOn(console, 'log').mockImplementation((text: string) => void out.push(text));
  try {
    const exitCode = await main(args, {
      out: (text) => out.push(text),
      note: (text) => {
        notes.push(text);
        onNote(text);
      },
      env: {},
      signal,
    });
    return { exitCode, out: out.join('\n'), notes: notes.join('\n') };
  } finally {
    info.mockRestore();
    log.mockRestore();
  }
}
