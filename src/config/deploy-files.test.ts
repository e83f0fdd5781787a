import { access, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { pageNames, projectRoot, readPage } from '../../test/support/markdown.ts';
import { environmentNames } from './environment-names.ts';

const read = (name: string): Promise<string> => readFile(path.join(projectRoot, name), 'utf8');

interface Package {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

interface Job {
  readonly permissions?: Readonly<Record<string, string>>;
  readonly steps: readonly { readonly uses?: string; readonly run?: string }[];
}

const manifest = JSON.parse(await read('package.json')) as Package;

describe('.github/workflows/ci.yml', async () => {
  const name = '.github/workflows/ci.yml';
  const text = await read(name);
  const workflow = parse(text) as { readonly permissions: unknown; readonly jobs: Readonly<Record<string, Job>> };
  const jobs = Object.entries(workflow.jobs);
  const commands = jobs.flatMap(([, { steps }]) => steps.flatMap(({ run }) => run ?? []));

  test('pins each action by its commit, and says its version', () => {
    const uses = [...text.matchAll(/^\s*- uses: (.*)$/gm)].map(([, what = '']) => what);
    expect(uses.filter((what) => !/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(what))).toEqual([]);
    const steps = jobs.flatMap(([, job]) => job.steps);
    expect(uses).toHaveLength(steps.filter((step) => step.uses !== undefined).length);
  });

  test('calls scripts and files that are there', async () => {
    const script = commands.join('\n');
    const scripts = [...script.matchAll(/\bnpm (?:run )?(?:--silent )?(test(?::\w+)?|\w+(?::\w+)?)/g)];
    const called = scripts.flatMap(([, each = '']) => (each === 'ci' ? [] : each));
    expect(called.filter((each) => !Object.hasOwn(manifest.scripts, each))).toEqual([]);
    expect(called.length).toBeGreaterThan(7);
    const files = [...script.matchAll(/(?<![\w/])((?:deploy|scripts|\.ci)\/[\w./-]*[\w])/g)].map(
      ([, file = '']) => file,
    );
    for (const file of files) await access(path.join(projectRoot, file));
    expect(files.length).toBeGreaterThan(4);
  });

  test('may read, and write packages and attestations where it releases', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(jobs.filter(([, { permissions }]) => permissions !== undefined).map(([id]) => id)).toEqual(['release']);
    expect(workflow.jobs['release']?.permissions).toEqual({
      contents: 'read',
      packages: 'write',
      'id-token': 'write',
      attestations: 'write',
    });
  });
});

describe('deploy/compose', async () => {
  const composeText = await read('deploy/compose/compose.yaml');
  const { services } = parse(composeText) as {
    readonly services: Readonly<Record<string, { readonly environment?: Readonly<Record<string, string>> }>>;
  };

  test('.env.example has the variables that compose.yaml takes, and no other', async () => {
    const example = await read('deploy/compose/.env.example');
    const offered = [...example.matchAll(/^([A-Z0-9_]+)=/gm)].map(([, name]) => name);
    const asSecrets = [...composeText.matchAll(/\{ environment: ([A-Z0-9_]+) \}/g)].map(([, name = '']) => name);
    const inPlace = [...composeText.matchAll(/(?<!\$)\$\{([A-Z0-9_]+)/g)].map(([, name = '']) => name);
    expect(new Set(offered)).toEqual(new Set([...asSecrets, ...inPlace]));
  });

  test('sets variables that pgark reads', () => {
    const known = new Set(environmentNames.flatMap(({ name }) => [name, `${name}_FILE`]));
    expect(Object.keys(services['backup']?.environment ?? {}).filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('deploy/helm/pgark', async () => {
  const values: unknown = parse(await read('deploy/helm/pgark/values.yaml'));
  const schema = JSON.parse(await read('deploy/helm/pgark/values.schema.json')) as ValuesSchema;

  test('has values that its schema knows, and no other', () => {
    expect(keysOf(values)).toEqual(expect.arrayContaining(schemaKeys(schema)));
    expect(schemaKeys(schema)).toEqual(expect.arrayContaining(keysOf(values).filter((key) => !isFree(schema, key))));
  });

  test('uses every value, and values that there are', async () => {
    const folder = 'deploy/helm/pgark/templates';
    const templates: string[] = [];
    for (const name of await readdir(path.join(projectRoot, folder))) templates.push(await read(`${folder}/${name}`));
    const used = new Set(
      [...templates.join('\n').matchAll(/\.Values((?:\.\w+)+)/g)].map(([, key = '']) => key.slice(1)),
    );
    const there = keysOf(values);
    expect([...used].filter((key) => !there.includes(key))).toEqual([]);
    const parents = there.filter((key) => there.some((other) => other.startsWith(`${key}.`)));
    expect(there.filter((key) => !parents.includes(key) && ![...used].some((each) => isWithin(key, each)))).toEqual([]);
  });
});

interface ValuesSchema {
  readonly additionalProperties?: unknown;
  readonly properties?: Readonly<Record<string, ValuesSchema>>;
}

/** Dotted, of maps and what is in them. */
function keysOf(value: unknown, at = ''): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([key, inner]) => [`${at}${key}`, ...keysOf(inner, `${at}${key}.`)]);
}

/** But for `global`, which Helm itself gives to every chart. */
function schemaKeys({ properties = {} }: ValuesSchema, at = ''): string[] {
  return Object.entries(properties).flatMap(([key, inner]) =>
    key === 'global' ? [] : [`${at}${key}`, ...schemaKeys(inner, `${at}${key}.`)],
  );
}

/** In a map of which the schema says no keys, such as `resources`. */
function isFree(schema: ValuesSchema, key: string): boolean {
  const known = schemaKeys(schema);
  return known.some(
    (other) => isWithin(key, other) && key !== other && !known.some((each) => each.startsWith(`${other}.`)),
  );
}

function isWithin(key: string, of: string): boolean {
  return key === of || key.startsWith(`${of}.`);
}

describe('docs/adr', () => {
  test('README.md lists every record by its title', async () => {
    const records = (await pageNames()).filter((name) => /^docs\/adr\/\d{4}-/.test(name));
    const wanted: string[] = [];
    for (const name of records) {
      const title = (await readPage(name)).prose[0] ?? '';
      const [, number = '', words = ''] = /^# (\d+)\. (.*)$/.exec(title) ?? [];
      expect(path.basename(name)).toMatch(new RegExp(`^${number.padStart(4, '0')}-`));
      wanted.push(`- [${number}](${path.basename(name)}). ${words}`);
    }
    const { prose } = await readPage('docs/adr/README.md');
    expect(prose.filter((line) => line.startsWith('- '))).toEqual(wanted);
  });

  test('0002 names every package that pgark runs with', async () => {
    const { text } = await readPage('docs/adr/0002-dependencies.md');
    expect(Object.keys(manifest.dependencies).filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
