import { IsthmusError } from '@isthmus/core';

/** Says that a node is in the way of a gradient, why, and what to do. */
export function noGradient(
  node: { opType: string; domain: string; name: string; output: readonly string[] },
  reason: string,
): IsthmusError {
  const operator = node.domain === '' ? node.opType : `${node.domain}.${node.opType}`;
  const name = node.name || (node.output.find((output) => output !== '') ?? '');
  return new IsthmusError(
    'train/no-gradient',
    `No gradient flows through ${operator} node ${JSON.stringify(name)}: ${reason}. Freeze what comes before it, or ` +
      'replace it by operators that have one.',
    { details: { operator, node: name } },
  );
}
