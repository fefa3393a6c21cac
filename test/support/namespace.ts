import { execFileSync } from 'node:child_process';

/** A network of its own in the kernel, joined to ours by one virtual cable whose direction towards it is shaped. */
export interface Namespace {
  /** In front of a command that is to run there. */
  readonly prefix: readonly string[];
  /** Of the far end. */
  readonly address: string;
  /** What the kernel lets through towards the far end from now on (tc-tbf). */
  setRate(rateBps: number): void;
  /** Pulls the cable out at the far end, or puts it back. */
  setPlugged(isPlugged: boolean): void;
  remove(): void;
}

// A queue of a tenth of a second, as a modem's; the burst is a few packets.
const tbf = ['burst', '8kb', 'latency', '100ms'];

/** Makes one, or says why this machine cannot: it takes Linux, the rights of root, and iproute2 with tbf. */
export function openNamespace(): Namespace | { missing: string } {
  if (process.platform !== 'linux') return { missing: 'network namespaces are of Linux' };
  const name = `isthmus-${process.pid}`;
  // Interface names have at most 15 characters; addresses are of the range for benchmarks (RFC 2544).
  const [near, far] = [`is${process.pid}a`, `is${process.pid}b`];
  const net = `198.18.${process.pid % 250}`;
  const inside = ['netns', 'exec', name, 'ip'];
  const remove = (): void => {
    // The cable goes with its end; nothing is left if it was never made.
    for (const args of [
      ['link', 'del', near],
      ['netns', 'del', name],
    ]) {
      try {
        run('ip', args);
      } catch {}
    }
  };
  const setRate = (rateBps: number): void =>
    run('tc', ['qdisc', 'replace', 'dev', near, 'root', 'tbf', 'rate', `${rateBps}bit`, ...tbf]);
  try {
    run('ip', ['netns', 'add', name]);
    run('ip', ['link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', name]);
    run('ip', ['addr', 'add', `${net}.1/30`, 'dev', near]);
    run('ip', ['link', 'set', near, 'up']);
    run('ip', [...inside, 'addr', 'add', `${net}.2/30`, 'dev', far]);
    run('ip', [...inside, 'link', 'set', far, 'up']);
    run('ip', [...inside, 'link', 'set', 'lo', 'up']);
    setRate(1e9);
  } catch (error) {
    remove();
    return { missing: error instanceof Error ? error.message : String(error) };
  }
  return {
    prefix: ['ip', 'netns', 'exec', name],
    address: `${net}.2`,
    setRate,
    setPlugged: (isPlugged) => run('ip', [...inside, 'link', 'set', far, isPlugged ? 'up' : 'down']),
    remove,
  };
}

function run(command: string, args: readonly string[]): void {
  try {
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 10_000 });
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? '').trim();
    const why = said || (error instanceof Error ? error.message : String(error));
    throw new Error(`${command} ${args.slice(0, 2).join(' ')}: ${why}`);
  }
}
