import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

// The arrows of docs/architecture.md: what each package may depend on, among ours. Undeclared imports are the
// linter's affair; this holds what is declared to the one direction.
const allowed: Readonly<Record<string, readonly string[]>> = {
  '@isthmus/core': [],
  '@isthmus/graph': ['@isthmus/core'],
  '@isthmus/runtime': ['@isthmus/core'],
  '@isthmus/planner': ['@isthmus/core'],
  '@isthmus/train': ['@isthmus/core', '@isthmus/graph', '@isthmus/runtime'],
  '@isthmus/device': ['@isthmus/core', '@isthmus/planner', '@isthmus/runtime'],
  '@isthmus/cloud': ['@isthmus/core', '@isthmus/runtime'],
  '@isthmus/models': ['@isthmus/core', '@isthmus/graph'],
  isthmus: [
    '@isthmus/cloud',
    '@isthmus/core',
    '@isthmus/device',
    '@isthmus/graph',
    '@isthmus/models',
    '@isthmus/planner',
    '@isthmus/runtime',
    '@isthmus/train',
  ],
};

const root = join(import.meta.dirname, '..');
const folders = [...readdirSync(join(root, 'packages')).map((name) => join('packages', name)), 'models'];

interface PackageJson {
  name: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

function isOurs(name: string): boolean {
  return name === 'isthmus' || name.startsWith('@isthmus/');
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(join(root, path), 'utf8')) as T;
}

describe.each(folders)('%s', (folder) => {
  const json = readJson<PackageJson>(join(folder, 'package.json'));
  const ours = Object.keys({ ...json.dependencies, ...json.peerDependencies }).filter(isOurs);

  it('depends only on packages below it', () => {
    expect(Object.keys(allowed)).toContain(json.name);
    expect(ours.filter((name) => !allowed[json.name]!.includes(name))).toEqual([]);
  });

  it('needs at most a runtime more for its tests', () => {
    const forTests = [...allowed[json.name]!, '@isthmus/core', '@isthmus/runtime'];
    const more = Object.keys(json.devDependencies ?? {}).filter(isOurs);
    expect(more.filter((name) => !forTests.includes(name) || name === json.name)).toEqual([]);
  });

  it('references in TypeScript exactly what it depends on', () => {
    const { references } = readJson<{ references: { path: string }[] }>(join(folder, 'tsconfig.json'));
    const names = references.map(
      ({ path }) => readJson<PackageJson>(join(folder, path, 'package.json')).name,
    );
    expect(names.sort()).toEqual(ours.sort());
  });
});
