import { IsthmusError } from '@isthmus/core';
import { parsePlans } from '../plan-options.js';
import { controllerPolicy } from './controller-policy.js';
import { fixedPolicy } from './fixed-policies.js';
import { oraclePolicy } from './oracle.js';
import type { PolicyFactory } from './policy.js';
import { rateOnly, splitOnly, throughputRule } from './rate-policies.js';
import type { Scenario } from './scenario.js';
import type { Workload } from './workload.js';

/** What `--policy` takes, next to `fixed:PLAN`; in the order of the tables. */
const policyNames = [
  'controller',
  'controller-loaded',
  'best-fixed',
  'rate-only',
  'throughput-rule',
  'split-only',
  'fixed:local',
  'oracle',
] as const;

const fixedPrefix = 'fixed:';

/** The policies asked for, checked; all that there are without a word, `fixed:local` where the device may. */
export function choosePolicies(asked: readonly string[] | undefined, workload: Workload): string[] {
  const mayRunLocally = workload.options.some(({ plan }) => plan.kind === 'local');
  if (asked === undefined) return policyNames.filter((name) => name !== 'fixed:local' || mayRunLocally);
  for (const name of asked) {
    if (name.startsWith(fixedPrefix)) {
      fixedIndex(name, workload);
    } else if (!policyNames.some((known) => known === name)) {
      const names = [...policyNames, 'fixed:CUT/CODEC/LEVEL'].join(', ');
      throw new IsthmusError('usage/invalid', `There is no policy "${name}"; there are: ${names}.`);
    }
  }
  return [...new Set(asked)];
}

/** What is known of a class of traces before a policy is made for one of them. */
export interface KnownOfKind {
  /** The option that was best for the class in hindsight. */
  bestFixed: number | undefined;
  /** The same, of those that send something. */
  bestSplit: number | undefined;
}

/** A policy by its name, for one run, and what it settled on. */
export function createNamedPolicy(
  name: string,
  scenario: Scenario,
  known: KnownOfKind,
): { policy: PolicyFactory; detail?: string } {
  const { workload } = scenario;
  switch (name) {
    case 'controller':
      return { policy: controllerPolicy() };
    case 'controller-loaded':
      return { policy: controllerPolicy({ isLoaded: true }) };
    case 'throughput-rule':
      return { policy: throughputRule };
    case 'split-only':
      return { policy: splitOnly };
    case 'rate-only': {
      const cut = workload.options[known.bestSplit ?? 0]?.deviceCut ?? 0;
      return { policy: rateOnly(cut), detail: `cut ${cut}` };
    }
    case 'oracle':
      return { policy: oraclePolicy(scenario) };
    default: {
      const index = name === 'best-fixed' ? (known.bestFixed ?? 0) : fixedIndex(name, workload);
      const option = workload.options[index]!;
      return { policy: fixedPolicy(option.plan), detail: option.name };
    }
  }
}

function fixedIndex(name: string, workload: Workload): number {
  const [plan] = parsePlans([name.slice(fixedPrefix.length)], workload.manifest);
  const index = plan === undefined || plan === 'auto' ? undefined : workload.indexOf(plan);
  if (index !== undefined) return index;
  throw new IsthmusError(
    'usage/invalid',
    `"${name}" is no plan that the device may take here. Plans are fixed:local and fixed:CUT/CODEC/LEVEL, with cuts up to --max-device-cut.`,
  );
}
