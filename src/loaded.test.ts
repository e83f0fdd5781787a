import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../test/support/temp.ts';

const HEAVY = ['@aws-sdk/client-s3', '@prometheus-io/client', 'age-encryption', 'hono', 'nodemailer'];

/** Most of what a short command takes is reading code, and WAL is archived by one process for each segment. */
test('a command reads only code that it needs', { timeout: 300_000 }, async () => {
  const version = await loadedBy(['--version']);
  expect(version.packages).toContain('commander');
  expect(version.folders).not.toContain('operations');
  for (const argv of [['list'], ['wal', 'push', 'missing']]) {
    const { packages } = await loadedBy(argv);
    expect(packages).toContain('zod');
    expect(packages.filter((name) => ['pg', 'pino', 'yaml', ...HEAVY].includes(name))).toEqual([]);
  }
  const { packages, folders } = await loadedBy(['backup']);
  expect(folders).toContain('formats/plain');
  expect(packages.filter((name) => ['yaml', ...HEAVY].includes(name))).toEqual([]);
  const others = ['formats/directory', 'formats/physical', 'postgres/replication', 'postgres/toc'];
  expect(folders.filter((name) => others.includes(name))).toEqual([]);
});

/** By the first backup another version may lie there. */
test('a daemon has read all that its backups need when it begins to listen', { timeout: 300_000 }, async () => {
  const { folders } = await loadedBy(['daemon'], { PGARK_LISTEN: '192.0.2.1:1' });
  expect(folders).toEqual(expect.arrayContaining(['formats/plain', 'formats/directory', 'formats/physical']));
});

interface Loaded {
  readonly packages: readonly string[];
  /** Below src. */
  readonly folders: readonly string[];
}

/** What a command has read when it ends: with an empty storage, and a server that is away. */
async function loadedBy(argv: readonly string[], more: Readonly<Record<string, string>> = {}): Promise<Loaded> {
  await using folder = await makeTempDirectory();
  const [hook, list] = [path.join(folder.path, 'hook.mjs'), path.join(folder.path, 'loaded')];
  await writeFile(
    hook,
    `import { registerHooks } from 'node:module';
    import { writeFileSync } from 'node:fs';
    const urls = [];
    registerHooks({ resolve: (name, context, next) => { const found = next(name, context); urls.push(found.url); return found; } });
    process.on('exit', () => writeFileSync(${JSON.stringify(list)}, urls.join('\\n')));`,
  );
  const args = ['--import', pathToFileURL(hook).href, path.join(import.meta.dirname, 'main.ts'), ...argv];
  const storage = pathToFileURL(folder.path).href;
  const env = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop', BACKUP_STORAGE: storage, ...more };
  // Whether it succeeds is of no matter here.
  await promisify(execFile)(process.execPath, args, { env }).catch(() => undefined);
  const urls = (await readFile(list, 'utf8')).split('\n');
  const own = `${pathToFileURL(import.meta.dirname).href}/`;
  const files = urls.flatMap((url) => (url.startsWith(own) ? url.slice(own.length) : []));
  const packages = urls.flatMap((url) => /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1] ?? []);
  return { packages: [...new Set(packages)], folders: [...new Set(files.map((file) => path.dirname(file)))] };
}
