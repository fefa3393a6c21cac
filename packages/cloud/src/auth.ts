import { createHash, timingSafeEqual } from 'node:crypto';
import { IsthmusError } from '@isthmus/core';

/** Who asks, and for what. */
export interface AuthContext {
  via: 'websocket' | 'http';
  /** Of the socket's other end, which may be a proxy. */
  address: string;
  origin: string | null;
  model: string | null;
}

/** Accepted tokens, or a function that decides; what it throws refuses too. */
export type Auth =
  | readonly string[]
  | ((token: string | null, context: AuthContext) => boolean | Promise<boolean>);

export type Authorize = (token: string | null, context: AuthContext) => Promise<boolean>;

/** @throws IsthmusError `usage/invalid` for an empty list or an empty token. */
export function createAuthorizer(auth: Auth | undefined): Authorize {
  if (auth === undefined) return async () => true;
  if (typeof auth === 'function') return async (token, context) => (await auth(token, context)) === true;
  if (auth.length === 0 || auth.some((token) => token === '')) {
    throw new IsthmusError(
      'usage/invalid',
      'auth needs at least one token, and none may be empty. Leave it out to let everybody in.',
    );
  }
  const accepted = auth.map(digest);
  return async (token) => {
    if (token === null) return false;
    const given = digest(token);
    // Hashes have one length, and all are compared, so that the time taken tells nothing about the tokens.
    return accepted.map((hash) => timingSafeEqual(hash, given)).includes(true);
  };
}

/** A token's hash, to tell clients apart without keeping their secrets. */
export function tokenHash(token: string | null): string {
  return digest(token === null ? '' : `token ${token}`).toString('hex');
}

/** Whether a web page of `origin` may talk to the receiver at `host`; a client without origin is no web page. */
export type OriginCheck = (origin: string | undefined, host: string | undefined) => boolean;

export function createOriginCheck(allowed: readonly string[] | '*' | undefined): OriginCheck {
  if (allowed === '*') return () => true;
  const listed = new Set(allowed?.map((origin) => origin.replace(/\/$/, '').toLowerCase()));
  return (origin, host) => {
    if (origin === undefined) return true;
    if (listed.has(origin.toLowerCase())) return true;
    return (
      allowed === undefined && host !== undefined && /^https?:\/\//.test(origin) && hostOf(origin) === host
    );
  };
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
