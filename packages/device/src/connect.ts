import {
  type AcceptMessage,
  IsthmusError,
  interpret,
  isIsthmusError,
  type Manifest,
  requestHeaderBytes,
  toIsthmusError,
} from '@isthmus/core';
import type { ChosenPlan, Plan } from '@isthmus/planner';
import { type Answered, answerLocally, answerSplit } from './answer.js';
import { type Bundle, createBundle, fetchManifest } from './bundle.js';
import type { LinkStateEvent } from './connection.js';
import { createEnding } from './ending.js';
import { createEmitter } from './events.js';
import { type PreparedFrame, type ReadFrame, readFrame } from './frame.js';
import { createHttpGet, receiverUrls } from './http.js';
import { createLifetime, type Lifetime } from './lifetime.js';
import { type ConnectOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { createPlans, type FrameToChoose } from './plans.js';
import type { Platform } from './platform.js';
import type { FrameResult } from './result.js';
import { createSegmentStore } from './segments.js';
import type { RunOptions, Session, SessionEvents } from './session.js';
import { createSlots, type Slots } from './slots.js';
import { createUplink, linkLost } from './uplink.js';

const version = '0.1.0';
// How often one frame is answered anew because the receiver came back with another bundle meanwhile.
const maxBundleChanges = 3;

/**
 * Connects a device to a receiver; each platform's entry point binds its own `platform`.
 *
 * @throws IsthmusError `usage/invalid`, `link/connect-failed`, `auth/denied`, `bundle/no-such-model`,
 * `bundle/invalid`, `wire/version-mismatch`, `bundle/no-such-cut` and the like for a plan that cannot be,
 * `request/cancelled`
 */
export async function connectOn<Frame>(
  platform: Platform,
  url: string,
  connectOptions: ConnectOptions,
): Promise<Session<Frame>> {
  const { socketUrl, baseUrl } = receiverUrls(url);
  const options = resolveOptions(connectOptions, platform);
  const { session, start } = createSession<Frame>(platform, socketUrl, baseUrl, options);
  const onAbort = (): void =>
    void session.close(
      new IsthmusError('request/cancelled', 'Connecting was cancelled.', { cause: options.signal?.reason }),
    );
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    if (options.signal?.aborted) onAbort();
    await start();
    return session;
  } catch (error) {
    await session.close(toIsthmusError(error, 'link/connect-failed', `Cannot connect to ${url}`));
    throw session.ended ?? error;
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
  }
}

interface OwnSession<Frame> extends Session<Frame> {
  readonly ended: IsthmusError | undefined;
  close(error?: IsthmusError): Promise<void>;
}

function createSession<Frame>(
  platform: Platform,
  socketUrl: string,
  baseUrl: string,
  options: ResolvedOptions,
): { session: OwnSession<Frame>; start: () => Promise<void> } {
  const { clock } = options;
  const events = createEmitter<SessionEvents>();
  const life = createEnding();
  const get = createHttpGet({ ...options, baseUrl, stallTimeoutMs: options.connectTimeoutMs, ending: life });
  const bundlePath = `models/${encodeURIComponent(options.model)}/`;
  const readFile = createSegmentStore({
    get,
    bundlePath,
    cache: options.cache,
    onEvent: (event) => events.emit('segment', event),
  });
  const plans = createPlans({
    options,
    onChange: (plan) => events.emit('plan', plan),
    onDecision(event) {
      // For the link's sake, so that it is worth knowing soon when it can do more.
      if (event.decision.plan.kind === 'skip') uplink.look();
      events.emit('decision', event);
    },
  });
  const turns = createTurns(options);
  let numFrames = 0;
  let bundle: Bundle | undefined;
  let closed: Promise<void> | undefined;

  const current = (): Bundle => {
    if (bundle === undefined) throw new IsthmusError('internal', 'There is no bundle yet.');
    return bundle;
  };
  const loadBundle = async (): Promise<void> => {
    const fetched = await fetchManifest(get, bundlePath);
    if (fetched.sha256 === bundle?.sha256) return;
    const old = bundle;
    const created: Bundle = createBundle({
      ...options,
      ...fetched,
      readFile,
      onSpan: (to, isReady) => plans.spanChanged(created, to, isReady),
    });
    bundle = created;
    // Packets of the old bundle mean nothing to the receiver; their frames are run again.
    uplink.failPending(linkLost('The receiver came back with another bundle.'));
    await old?.release();
  };

  const uplink = createUplink({
    url: socketUrl,
    options,
    client: `isthmus-device/${version} (${platform.name})`,
    ending: life,
    held: () => ({ bundle: bundle?.sha256 ?? null, tables: tablesOf(bundle?.manifest) }),
    async onAccept(accept: AcceptMessage) {
      if (accept.bundle !== bundle?.sha256) await loadBundle();
      if (accept.bundle === bundle?.sha256) return;
      throw new IsthmusError(
        'bundle/invalid',
        'The receiver serves another manifest than it names. Is a cache between that is out of date?',
        { retryable: true },
      );
    },
    controller: () => plans.controller,
    onUp: (accept) => plans.use(current(), accept),
    onState(event) {
      events.emit('link', event);
      if (event.state === 'gone') void answerAlone();
      if (event.state === 'closed' && closed === undefined && bundle !== undefined) onLinkClosed(event);
    },
    onReceipt: (receipt) => events.emit('receipt', receipt),
  });

  // The link does not come back at once. If the whole model can be had here, nothing needs to wait for it.
  const answerAlone = async (): Promise<void> => {
    const { manifest, spans } = current();
    if (uplink.unreachable !== undefined || !plans.mayRunLocally(manifest)) return;
    try {
      await spans.load(manifest.cuts.length - 1);
    } catch {
      // Not all segments are here, or they do not load; then requests wait for the link.
      return;
    }
    if (uplink.state === 'gone') uplink.setUnreachable(linkLost('The link was lost.'));
  };

  // A refusal that stays ends the session; a link that was given up leaves a device that may answer alone.
  const onLinkClosed = (event: LinkStateEvent): void => {
    if (uplink.unreachable?.code !== 'link/lost') void close(event.error);
  };

  interface FrameContext {
    bundle: Bundle;
    lifetime: Lifetime;
    deadlineAtMs: number | undefined;
    onEncoded: () => void;
  }

  const answer = async (
    frame: PreparedFrame,
    plan: ChosenPlan,
    context: FrameContext,
  ): Promise<{ answered: Answered; plan: ChosenPlan }> => {
    const shared = { ...context, clock, controller: plans.controller };
    const locally = async (localPlan: ChosenPlan): Promise<{ answered: Answered; plan: ChosenPlan }> => {
      plans.announce(localPlan);
      return { answered: await answerLocally(shared, frame.tensors), plan: localPlan };
    };
    if (plan.kind === 'local') return locally(plan);
    try {
      if (uplink.unreachable !== undefined) throw uplink.unreachable;
      plans.announce(plan);
      const answered = await answerSplit(
        {
          ...shared,
          uplink,
          checkBundle: () => {
            if (bundle !== context.bundle) throw linkLost('The receiver came back with another bundle.');
          },
        },
        frame.tensors,
        plan,
      );
      return { answered, plan };
    } catch (error) {
      const isLost = isIsthmusError(error, 'link/lost') && bundle === context.bundle;
      if (!isLost || !plans.mayRunLocally(context.bundle.manifest)) throw error;
      try {
        return await locally({ kind: 'local', reason: 'link lost' });
      } catch (localError) {
        // Segments that cannot be had are the lost link's fault.
        throw isIsthmusError(localError, 'link/connect-failed') ? error : localError;
      }
    }
  };

  const runOnce = async (
    frame: ReadFrame,
    wanted: Plan | 'auto',
    context: FrameContext,
    toChoose: FrameToChoose,
  ): Promise<FrameResult> => {
    const { manifest, prepareFrame } = context.bundle;
    const prepareMs = clock.now();
    const prepared = prepareFrame(frame);
    const preprocessMs = clock.now() - prepareMs;
    const chosen = wanted === 'auto' ? plans.choose(toChoose) : plans.check(manifest, wanted);
    const { answered, plan } = await answer(prepared, chosen, context);
    const { tensors, bytes, timing } = answered;
    const { geometry } = prepared;
    return {
      output: interpret(manifest.task, tensors, geometry === undefined ? {} : { geometry }),
      tensors,
      plan,
      timing: { preprocessMs, ...timing, totalMs: clock.now() - toChoose.capturedMs },
      bytes,
      bitsPerPixel: bitsPerPixel(manifest, plan, bytes.payload),
    };
  };

  // A plan is chosen when the device can begin with the frame, not before: the link may have changed meanwhile.
  const takeTurn = async (signal: AbortSignal, capturedMs: number): Promise<() => void> => {
    try {
      return await turns.take(signal);
    } catch (error) {
      if (isIsthmusError(error, 'request/dropped')) plans.controller.dropped({ capturedMs });
      throw error;
    }
  };

  const run = async (frame: Frame, runOptions: RunOptions = {}): Promise<FrameResult> => {
    const capturedMs = clock.now();
    const { deadlineMs, plan = options.plan } = runOptions;
    const toChoose = { ordinal: numFrames++, capturedMs, deadlineMs };
    const lifetime = createLifetime({ clock, signal: runOptions.signal, parent: life, deadlineMs });
    const deadlineAtMs = deadlineMs === undefined ? undefined : capturedMs + deadlineMs;
    let endTurn: () => void = () => {};
    let giveBack: () => void = () => {};
    try {
      // Before anything waits: the picture may change under us.
      const read = await lifetime.race(readFrame(frame, platform.readFrame));
      const readMs = clock.now() - capturedMs;
      if (plan === 'auto' || options.maxQueuedFrames !== undefined) {
        endTurn = await takeTurn(lifetime.signal, capturedMs);
      }
      giveBack = await uplink.takeSlot(lifetime.signal);
      for (let change = 0; ; change++) {
        const context = { bundle: current(), lifetime, deadlineAtMs, onEncoded: endTurn };
        try {
          const result = await runOnce(read, plan, context, toChoose);
          result.timing.preprocessMs += readMs;
          return result;
        } catch (error) {
          const isNewBundle = isIsthmusError(error, 'link/lost') && bundle !== context.bundle;
          if (!isNewBundle || change === maxBundleChanges) throw error;
        }
      }
    } finally {
      endTurn();
      giveBack();
      lifetime.dispose();
    }
  };

  const prepare = async (plan: Plan): Promise<void> => {
    const { manifest, spans, encoders } = current();
    plans.check(manifest, plan);
    const lifetime = createLifetime({ clock, parent: life });
    try {
      const to = plan.kind === 'local' ? manifest.cuts.length - 1 : plan.from;
      await lifetime.race(spans.load(to));
      if (plan.kind === 'split') await lifetime.race(encoders.use(plan, async () => {}));
    } finally {
      lifetime.dispose();
    }
  };

  const close = (error?: IsthmusError): Promise<void> => {
    closed ??= (async () => {
      const reason = error ?? new IsthmusError('link/closed', 'The session was closed.');
      uplink.close(reason);
      life.end(reason);
      events.emit('close', { error });
      await bundle?.release();
      if (options.ownsRuntime) await options.runtime.close();
    })();
    return closed;
  };

  return {
    session: {
      get manifest() {
        return current().manifest;
      },
      get link() {
        return uplink.state;
      },
      get estimate() {
        return plans.controller.estimate;
      },
      get ended() {
        return life.reason;
      },
      run,
      prepare,
      on: events.on,
      close,
    },
    async start() {
      if (life.reason !== undefined) throw life.reason;
      await loadBundle();
      if (options.plan !== 'auto') plans.check(current().manifest, options.plan);
      await uplink.start();
      if (life.reason !== undefined) throw life.reason;
    },
  };
}

/** One frame at a time on the device. */
function createTurns({ plan, target, maxQueuedFrames }: ResolvedOptions): Slots {
  const newestOnly = plan === 'auto' && target.constraints.deadlineMs !== undefined;
  return createSlots(1, maxQueuedFrames ?? (newestOnly ? 1 : Infinity));
}

function tablesOf(manifest: Manifest | undefined): Record<string, string> {
  const withTables = (manifest?.codecs ?? []).flatMap(({ id, tablesSha256 }) =>
    tablesSha256 === null ? [] : [[id, tablesSha256] as const],
  );
  return Object.fromEntries(withTables);
}

function bitsPerPixel({ preprocess }: Manifest, plan: ChosenPlan, payloadBytes: number): number | null {
  if (preprocess === null) return null;
  const numBytes = plan.kind === 'local' ? 0 : payloadBytes + requestHeaderBytes;
  return (8 * numBytes) / (preprocess.width * preprocess.height);
}
