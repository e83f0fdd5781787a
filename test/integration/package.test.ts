import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pgarkVersion } from '../../src/version.ts';
import { runProgram, type RunResult } from '../support/cli.ts';
import { createDatabase, openDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

const checkout = path.resolve(import.meta.dirname, '../..');
const TIMEOUT_MS = 300_000;

/** The user's own settings of npm (registry, cache, proxies), and nothing that the npm which runs the tests adds. */
const NPM_SETTINGS =
  /^(npm_config_(registry|cache|userconfig|globalconfig|cafile)|node_extra_ca_certs|(https?|no)_proxy)$/i;
const npmEnvironment = {
  ...Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => NPM_SETTINGS.test(entry[0])),
  ),
  HOME: process.env['HOME'] ?? '',
  // npm and the installed package run on the Node.js that runs the tests.
  PATH: `${path.dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
};

let work: TempDirectory | undefined;
let folder = '';
let database: TestDatabase | undefined;
let contents: readonly string[] = [];

async function run(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const result: RunResult = await runProgram(program, args, { cwd: folder, env: { ...npmEnvironment, ...env } });
  expect(result, `${program} ${args.join(' ')}: ${result.stderr}`).toMatchObject({ exitCode: 0 });
  return result;
}

beforeAll(async () => {
  work = await makeTempDirectory();
  folder = work.path;
  await writeFile(work.join('package.json'), '{ "private": true, "type": "module" }\n');
  await run('npm', ['pack', checkout, '--pack-destination', folder]);
  const file = `pgark-${pgarkVersion}.tgz`;
  contents = (await run('tar', ['-tzf', file])).stdout.trim().split('\n');
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', `./${file}`]);
  database = await createDatabase({
    name: 'package',
    sql: 'create table item as select n, md5(n::text) as hash from generate_series(1, 60000) n',
  });
}, TIMEOUT_MS);

afterAll(async () => {
  await database?.drop();
  await work?.[Symbol.asyncDispose]();
});

function settings(): Record<string, string> {
  return { DATABASE_URL: database?.url ?? '', BACKUP_STORAGE: `file://${folder}/backups` };
}

describe('the package', () => {
  test('holds the program, its documentation and nothing of the checkout’s tests, tools and sources', () => {
    expect(contents).toEqual(expect.arrayContaining(['package/bin/pgark', 'package/dist/main.js']));
    expect(contents).toEqual(expect.arrayContaining(['package/dist/index.d.ts', 'package/docs/errors.md']));
    const strange = contents.filter(
      (name) => !/^package\/(bin\/pgark|dist\/.+\.(js|d\.ts)|docs\/(operations\/)?[a-z-]+\.md|[^/]+)$/.test(name),
    );
    expect(strange).toEqual([]);
    expect(contents.filter((name) => /\.(test|contract)\.|\/(test|src|bench|node_modules|tools)\//.test(name))).toEqual(
      [],
    );
  });

  test('brings no Node.js of its own and no development tools', async () => {
    const installed = await readdir(path.join(folder, 'node_modules'));
    expect(installed.filter((name) => /^(node-|vitest|typescript|oxlint|knip)/.test(name))).toEqual([]);
    const kilobytes = Number((await run('du', ['-sk', 'node_modules'])).stdout.split('\t')[0]);
    expect(kilobytes).toBeLessThan(80 * 1024);
  });

  test('has every file that its package.json and its launcher name', async () => {
    const root = path.join(folder, 'node_modules/pgark');
    const described = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as { files: string[] };
    const present = new Set(contents.map((name) => name.replace(/^package\//, '')));
    const missing = described.files.filter(
      (name) => ![...present].some((file) => file === name || file.startsWith(`${name}/`)),
    );
    expect(missing).toEqual([]);
  });
});

describe('the installed program', () => {
  test('says its version', async () => {
    expect((await run('npx', ['pgark', '--version'])).stdout).toBe(`${pgarkVersion}\n`);
  });

  test('makes a backup without the packages for traces, and says what to install', async () => {
    const env = { ...settings(), OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', LOG_FORMAT: 'json' };
    const { stderr } = await run('npx', ['pgark', 'backup'], env);
    const said = stderr.split('\n').filter((line) => line.includes('"traces.'));
    expect(said).toEqual([expect.stringContaining('npm install @opentelemetry/api ')]);
  });

  test('backs up a database to a directory and restores it', async () => {
    const backedUp = await run('npx', ['pgark', 'backup', '-o', 'json'], settings());
    expect(JSON.parse(backedUp.stdout)).toMatchObject({ results: [{ state: 'committed' }] });
    const copy = openDatabase(`${database?.name} copy`);
    try {
      await run('npx', ['pgark', 'restore', 'latest', '--to-db', copy.name], settings());
      const sql = "select count(*)::int as rows, md5(string_agg(hash, ',' order by n)) as hash from item";
      expect(await copy.query(sql)).toEqual(await database?.query(sql));
    } finally {
      await copy.drop();
    }
  });
});

describe('the installed library', () => {
  test('makes a backup, and lists and verifies it', async () => {
    const script = `
      import {
        backup, list, loadConfig, openStore, operationContext, PLAIN_NAME_TEMPLATE, sealerOf, verify,
      } from 'pgark';
      const config = await loadConfig({ env: process.env, cwd: process.cwd() });
      const [source] = config.databases.values();
      const [storage] = config.storages.values();
      const [job] = source.jobs.values();
      const store = await openStore(storage);
      const context = operationContext();
      const made = await backup(
        {
          source: source.name, connection: source.connection,
          destinations: [{ name: storage.name, store, needsDelete: false }],
          seal: { compression: job.compression, sealer: await sealerOf(job.encryption) },
          nameTemplate: job.filename ?? PLAIN_NAME_TEMPLATE, excludeTableData: job.excludeTableData,
          leaseTermMs: config.leaseTermMs, readBack: false, dryRun: false,
        },
        context,
      );
      const [{ manifest: own }] = made.destinations;
      const { backups } = await list({ store, filter: {} }, context);
      const selector = { kind: 'name', name: own.id };
      const { backups: verified } = await verify({ store, filter: {}, selector, deep: false, keys: config.decryptionKeys }, context);
      await store.close();
      console.log(JSON.stringify({
        listed: backups.some(({ manifest }) => manifest.id === own.id),
        failures: verified.filter(({ failure }) => failure !== undefined).length,
        verified: verified.length,
      }));`;
    await writeFile(path.join(folder, 'library.mjs'), script);
    const { stdout } = await run('node', ['library.mjs'], settings());
    expect(JSON.parse(stdout)).toEqual({ listed: true, failures: 0, verified: 1 });
  });

  test('rejects with errors that a program can tell apart', async () => {
    const script = `
      import { errorTable, isPgarkError, loadConfig } from 'pgark';
      try {
        await loadConfig({ env: {}, cwd: '/' });
      } catch (error) {
        console.log(isPgarkError(error, 'config-missing'), error.exitCode === errorTable['config-missing'].exit);
      }`;
    await writeFile(path.join(folder, 'error.mjs'), script);
    expect((await run('node', ['error.mjs'])).stdout).toBe('true true\n');
  });

  test('has types that a strict compiler accepts, without types of the packages below it', async () => {
    const script = `
      import { backup, operationContext, type BackupOutcome, type BackupRequest } from 'pgark';
      export async function make(request: BackupRequest): Promise<string> {
        const outcome: BackupOutcome = await backup(request, operationContext());
        // @ts-expect-error kind is no number: the types are real
        const wrong: number = outcome.kind;
        return outcome.kind === 'committed' ? (outcome.destinations[0]?.manifest?.id ?? '') : \`\${outcome.key}\${wrong}\`;
      }`;
    await writeFile(path.join(folder, 'types.ts'), script);
    const compiler = path.join(checkout, 'node_modules/typescript/bin/tsc');
    const types = path.join(checkout, 'node_modules/@types');
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--types', 'node'];
    await run('node', [compiler, ...options, '--typeRoots', types, 'types.ts']);
  });
});
