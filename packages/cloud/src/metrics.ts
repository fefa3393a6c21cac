import { type ErrorCode, IsthmusError } from '@isthmus/core';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Timing } from './scheduler.js';

/** What a receiver has done so far and holds now. */
export interface ReceiverStats {
  draining: boolean;
  connections: number;
  /** Sessions, of which `detachedSessions` wait for their client to come back. */
  sessions: number;
  detachedSessions: number;
  /** Packets that came in whole or were refused. */
  requests: number;
  succeeded: number;
  failed: number;
  /** Answers given again to a client that lost the first. */
  answeredFromMemory: number;
  /** Times a model was run. */
  runs: number;
  waiting: number;
  running: number;
  /** Bytes of requests being received or waiting and of results being sent. */
  pendingBytes: number;
  keptResults: number;
  keptResultBytes: number;
  receivedBytes: number;
  sentBytes: number;
  /** Spans loaded; what they and the decoders in use take, by estimate; and spans loaded so far. */
  spans: { loaded: number; numBytes: number; loads: number };
}

/** What is measured by counting, as it happens. */
interface Counts {
  requests: number;
  succeeded: number;
  failed: number;
  answeredFromMemory: number;
  receivedBytes: number;
  sentBytes: number;
}

export interface Metrics {
  readonly counts: Readonly<Counts>;
  requestEnded(model: string, code: ErrorCode | 'ok', timing: Timing | null): void;
  answeredFromMemory(): void;
  received(numBytes: number): void;
  sent(numBytes: number): void;
  connectionRefused(code: ErrorCode): void;
  /** A payload was no smaller than the tensors it codes, or much larger than those the bundle was measured on. */
  oversized(model: string, codec: string): void;
  /** In the text format of Prometheus. */
  render(): Promise<{ contentType: string; text: string }>;
}

const bucketsMs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/** Metrics in a registry of their own, so that several receivers in a process do not share them. */
export function createMetrics(readStats: () => ReceiverStats): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counts: Counts = {
    requests: 0,
    succeeded: 0,
    failed: 0,
    answeredFromMemory: 0,
    receivedBytes: 0,
    sentBytes: 0,
  };
  const requests = new Counter({
    name: 'isthmus_requests_total',
    help: 'Requests by model and how they ended.',
    labelNames: ['model', 'code'],
    registers,
  });
  const refusals = new Counter({
    name: 'isthmus_connections_refused_total',
    help: 'Connections closed for an error, by its code.',
    labelNames: ['code'],
    registers,
  });
  const oversized = new Counter({
    name: 'isthmus_oversized_payloads_total',
    help: "Payloads of at least twice the bytes the bundle's own pictures took, or as large as the tensors.",
    labelNames: ['model', 'codec'],
    registers,
  });
  const stages = new Histogram({
    name: 'isthmus_stage_milliseconds',
    help: 'Time of a request in each stage.',
    labelNames: ['model', 'stage'],
    buckets: bucketsMs,
    registers,
  });
  const gauge = (name: string, help: string, read: (stats: ReceiverStats) => number): void => {
    new Gauge({
      name: `isthmus_${name}`,
      help,
      registers,
      collect() {
        this.set(read(readStats()));
      },
    });
  };
  gauge('connections', 'Open connections.', (stats) => stats.connections);
  gauge('sessions', 'Sessions, with and without a connection.', (stats) => stats.sessions);
  gauge('waiting_requests', 'Requests in the queue.', (stats) => stats.waiting);
  gauge('running_requests', 'Requests being decoded or run.', (stats) => stats.running);
  gauge('pending_bytes', 'Bytes of requests and results under way.', (stats) => stats.pendingBytes);
  gauge('kept_result_bytes', 'Bytes of results kept for lost clients.', (stats) => stats.keptResultBytes);
  gauge('span_bytes', 'Estimated bytes of loaded spans and of decoders.', (stats) => stats.spans.numBytes);
  gauge('span_loads', 'Spans loaded so far.', (stats) => stats.spans.loads);
  gauge('received_bytes', 'Bytes of WebSocket messages received so far.', (stats) => stats.receivedBytes);
  gauge('sent_bytes', 'Bytes of WebSocket messages sent so far.', (stats) => stats.sentBytes);

  return {
    counts,
    requestEnded(model, code, timing) {
      counts.requests++;
      if (code === 'ok') counts.succeeded++;
      else counts.failed++;
      requests.inc({ model, code });
      if (timing === null) return;
      stages.observe({ model, stage: 'queue' }, timing.queueMs);
      stages.observe({ model, stage: 'decode' }, timing.decodeMs);
      stages.observe({ model, stage: 'run' }, timing.runMs);
    },
    answeredFromMemory() {
      counts.answeredFromMemory++;
    },
    received(numBytes) {
      counts.receivedBytes += numBytes;
    },
    sent(numBytes) {
      counts.sentBytes += numBytes;
    },
    connectionRefused(code) {
      refusals.inc({ code });
    },
    oversized(model, codec) {
      oversized.inc({ model, codec });
    },
    async render() {
      try {
        return { contentType: registry.contentType, text: await registry.metrics() };
      } catch (cause) {
        throw new IsthmusError('internal', 'The metrics could not be collected.', { cause });
      }
    },
  };
}
