import { access, readFile } from 'node:fs/promises';
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
