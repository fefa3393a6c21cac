import { type Clock, IsthmusError } from '@isthmus/core';
import type { LinkTrace } from '../link-bench/trace.js';
import { createShaper, followTrace, type Shaper } from '../shaper.js';

/** A receiver behind a proxy. */
export interface ShapedReceiver {
  url: string;
  shaper: Shaper;
  /** The uplink follows the trace from now on. */
  begin: () => void;
}

/**
 * A proxy before a receiver whose uplink follows a trace, once `begin` is called: until then it is fast, for the
 * manifest.
 *
 * @throws IsthmusError `usage/invalid` for a receiver behind TLS, and as `createShaper`
 */
export async function shapeReceiver(url: string, trace: LinkTrace, clock: Clock): Promise<ShapedReceiver> {
  const { protocol, hostname, port, pathname } = new URL(url);
  if (protocol !== 'ws:' && protocol !== 'http:') {
    throw new IsthmusError(
      'usage/invalid',
      '--trace shapes ws:// and http:// only: a proxy cannot be in between TLS.',
    );
  }
  const shaper = await createShaper({
    // Brackets are a URL's way to write an IPv6 address, not the socket's.
    target: { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) },
    uplink: { rateBps: Infinity, delayMs: trace.delayMs },
    clock,
  });
  const shapedUrl = `ws://127.0.0.1:${shaper.port}${pathname}`;
  return { url: shapedUrl, shaper, begin: () => followTrace(shaper, trace, clock) };
}
