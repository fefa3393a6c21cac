import type { Controller, Plan, SkipPlan } from '@isthmus/planner';
import type { Workload } from './workload.js';

/** What a policy is told, in the order and at the time at which the device would learn it. */
export type Observer = Pick<
  Controller,
  'dropped' | 'ran' | 'encoded' | 'sent' | 'arrived' | 'answered' | 'abandoned' | 'roundTrip'
>;

/** A frame that the device is free for; times of the simulation. */
export interface FrameContext {
  index: number;
  capturedMs: number;
  deadlineMs: number;
}

/** A choice, and what should be loaded for later frames. */
interface Choice {
  plan: Plan | SkipPlan;
  prepare?: number | null;
  evict?: readonly number[];
}

/** Chooses a plan for every frame. */
export interface Policy extends Partial<Observer> {
  readonly name: string;
  /** Whether the device must fetch and load spans while it runs; without, all are there from the start. */
  spans?: Pick<Controller, 'spanReady' | 'spanDropped'>;
  /** Whether the link is kept under observation when nothing else goes over it. @default true */
  pings?: boolean;
  /** Whether the link is to be pinged every quarter of a second: nothing seems to get through. @default after a silence */
  isOverdue?(): boolean;
  decide(frame: FrameContext): Choice;
}

/** What a policy may know before it starts. */
interface PolicySetting {
  workload: Workload;
  deadlineMs: number;
  clock: { now(): number };
}

/** Makes a policy for one run. */
export type PolicyFactory = (setting: PolicySetting) => Policy;
