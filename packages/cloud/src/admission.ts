import { type HelloMessage, IsthmusError, negotiateVersion, protocolVersions } from '@isthmus/core';
import type { ReceiverContext } from './context.js';
import type { ServedModel } from './model.js';

/** The other end, as far as its handshake tells. */
export interface Peer {
  address: string;
  origin: string | undefined;
  host: string | undefined;
}

/** What a good hello leads to. */
export interface Admission {
  protocol: number;
  model: ServedModel;
  /** Ids of the codecs both ends can use. */
  codecs: string[];
  tables: Record<string, string>;
}

/**
 * Decides about a hello.
 *
 * @throws IsthmusError `wire/version-mismatch`, `auth/origin`, `auth/denied`, `receiver/draining`,
 * `bundle/no-such-model`, `wire/table-mismatch`
 */
export async function admitHello(
  hello: HelloMessage,
  peer: Peer,
  context: ReceiverContext,
): Promise<Admission> {
  const protocol = negotiateVersion(hello.protocol, protocolVersions);
  checkOrigin(peer, context);
  await checkToken(hello, peer, context);
  if (context.isDraining()) throw drainingError();
  const model = findModel(hello.model, context);
  const { manifest } = model.bundle;
  const tables: Record<string, string> = {};
  for (const { id, tablesSha256 } of manifest.codecs) {
    if (tablesSha256 === null) continue;
    tables[id] = tablesSha256;
    const theirs = Object.hasOwn(hello.tables, id) ? hello.tables[id] : undefined;
    if (theirs !== undefined && theirs !== tablesSha256) {
      throw new IsthmusError(
        'wire/table-mismatch',
        `The tables of codec ${id} are others here: what one end encodes, the other could not decode. Fetch the codec's files again.`,
        { details: { codec: id } },
      );
    }
  }
  const codecs = manifest.codecs
    .filter((entry, index) => model.decoders[index] !== undefined && hello.codecs.includes(entry.kind))
    .map((entry) => entry.id);
  return { protocol, model, codecs, tables };
}

export function drainingError(): IsthmusError {
  return new IsthmusError('receiver/draining', 'This receiver is shutting down. Connect to another one.', {
    retryable: true,
  });
}

function checkOrigin({ origin, host }: Peer, context: ReceiverContext): void {
  if (!context.isOriginAllowed(origin, host)) {
    throw new IsthmusError(
      'auth/origin',
      `Pages of ${origin?.slice(0, 200)} may not connect here. Add the origin to the receiver's allowedOrigins.`,
    );
  }
}

async function checkToken(hello: HelloMessage, peer: Peer, context: ReceiverContext): Promise<void> {
  let allowed = false;
  try {
    const { address, origin = null } = peer;
    allowed = await context.authorize(hello.token, { via: 'websocket', address, origin, model: hello.model });
  } catch (error) {
    context.log.error({ err: error }, 'the auth function failed; access is denied');
  }
  if (!allowed) {
    throw new IsthmusError('auth/denied', 'This receiver needs another token.');
  }
}

/** @throws IsthmusError `bundle/no-such-model` */
export function findModel(id: string, context: ReceiverContext): ServedModel {
  const model = context.models.get(id);
  if (model === undefined) {
    throw new IsthmusError(
      'bundle/no-such-model',
      `There is no model ${id} here; there are ${[...context.models.keys()].join(', ')}.`,
    );
  }
  return model;
}
