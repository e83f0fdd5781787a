import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { operationContext } from '../../src/operations/context.ts';
import type { DrillRequest } from '../../src/operations/drill/drill-request.ts';
import { keys } from '../../src/repository/keys.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { filePlace } from '../support/archive-restoring.ts';
import { expectFailure, fileStorage, succeed } from '../support/backups.ts';
import { pgarkPath, runProgram } from '../support/cli.ts';
import { backUp, fileDestination } from '../support/destinations.ts';
import { drillIn, proofsIn, workFolder } from '../support/drills.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { smallDisk } from '../support/small-disk.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { makeTempDirectory } from '../support/temp.ts';

let source: TestDatabase;
let work: Awaited<ReturnType<typeof workFolder>>;
let place: Awaited<ReturnType<typeof filePlace>>;
let store: ObjectStore;

beforeAll(async () => {
  work = await workFolder();
  source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  place = await filePlace();
  store = place.store;
  await makeStockArchive(source, store);
});
afterAll(async () => {
  await place[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
});

/** It ends with 1, says what is missing, and leaves no proof of a backup that nobody has tried. */
async function expectImpossible(
  why: { readonly code?: string; readonly message: RegExp; readonly hint: RegExp },
  changes: Partial<DrillRequest>,
): Promise<void> {
  await expect(drillIn(store, work, changes)).rejects.toMatchObject({
    code: why.code ?? 'drill-impossible',
    exitCode: 1,
    message: expect.stringMatching(why.message),
    hint: expect.stringMatching(why.hint),
  });
  expect(await proofsIn(store)).toEqual([]);
  await work.expectEmpty();
}

/** Programs that say they are a server of this version, and are none. */
async function programsOf(version: string) {
  const folder = await workFolder();
  for (const name of ['pg_ctl', 'initdb', 'postgres']) {
    const script = `#!/bin/sh\n[ "$1" = --version ] || { echo 'no server' >&2; exit 1; }\necho "${name} (PostgreSQL) ${version}"\n`;
    await writeFile(folder.join(name), script, { mode: 0o755 });
  }
  return folder;
}

describe('a drill that cannot be carried out here says nothing of the backup', () => {
  test('without the folder that it is to work in', async () => {
    const workPath = work.join('nowhere');
    await expectImpossible(
      { message: /cannot be tried here: the folder .*nowhere cannot be worked in/, hint: /--work-dir/ },
      { scratch: { kind: 'own', workFolder: workPath } },
    );
  });

  test('with a folder of programs that holds none, or those of an older server, or a server that does not start', async () => {
    const within = (binDir: string): Partial<DrillRequest> => ({
      scratch: { kind: 'own', workFolder: work.path, binDir },
    });
    const folder = { code: 'client-missing', hint: /name the folder/ };
    await expectImpossible({ ...folder, message: /there is no PostgreSQL server in/ }, within(work.path));
    await using old = await programsOf('9.6.24');
    await expectImpossible({ ...folder, message: /is of PostgreSQL 9, and the backup of \d+/ }, within(old.path));
    await using broken = await programsOf('99.1');
    await expectImpossible(
      { message: /cannot be tried here: initdb could not make .*: no server/, hint: /it was run from/ },
      within(broken.path),
    );
  });

  test('without room for it', async () => {
    await using disk = await smallDisk();
    await expectImpossible(
      { message: /cannot be tried here: .*No space left/s, hint: /./ },
      { scratch: { kind: 'own', workFolder: disk.path } },
    );
  });

  test.each([['directory'], ['plain']] as const)(
    'with a disk that is full in mid-load of format %s',
    async (format) => {
      await using disk = await smallDisk(70);
      await using other = await fileDestination('other');
      await using large = await createDatabase({
        name: 'src',
        sql: `CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) AS text FROM generate_series(1, 100000) n`,
      });
      await backUp(large, [other], { format });
      const warnings: string[] = [];
      const logger: Logger = { ...silentLogger, warning: (event) => warnings.push(event), child: () => logger };
      const scratch = { kind: 'own', workFolder: disk.path } as const;
      await expect(drillIn(other.store, work, { scratch }, { logger })).rejects.toMatchObject({
        code: 'drill-impossible',
        message: expect.stringMatching(/cannot be tried here: .*No space left on device/s),
        hint: expect.stringMatching(/a folder with more room/),
      });
      expect(warnings.filter((event) => event !== 'load.retried')).toEqual([]);
      expect(await proofsIn(other.store)).toEqual([]);
    },
  );

  test('without the locale of the original', async () => {
    await using other = await filePlace();
    const { id, ...manifest } = await makeStockArchive(source, other.store);
    const repository = new Repository(other.store, operationContext());
    const [stored] = (await repository.backups()).manifests;
    if (stored === undefined) throw new Error('there is no backup');
    await other.store.delete(keys.manifest(stored.source, stored.database.name, stored.id));
    const locale = { collation: 'xx_XX.utf8', ctype: 'xx_XX.utf8', localeProvider: 'libc' };
    await repository.commit({ ...stored, ...manifest, id, database: { ...stored.database, ...locale } });
    await expect(drillIn(other.store, work)).rejects.toMatchObject({
      code: 'drill-impossible',
      message: expect.stringMatching(/cannot be tried here: the database cannot be made like the original: .*locale/),
    });
    expect(await proofsIn(other.store)).toEqual([]);
    await work.expectEmpty();
  });

  test('as root where there is no account that a server could run under', async () => {
    await using storage = await fileStorage();
    await using folder = await makeTempDirectory();
    const env = { ...storage.env, DATABASE_URL: source.url };
    await succeed(['backup', '--format', 'directory'], env);
    const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n');
    await writeFile(folder.join('passwd'), accounts.filter((line) => !/^(postgres|nobody):/.test(line)).join('\n'));
    const script = `mount --bind ${folder.join('passwd')} /etc/passwd; exec "$0" "$@"`;
    const args = ['--mount', '--propagation', 'private', 'sh', '-euc', script, pgarkPath, 'drill'];
    const failed = await runProgram('unshare', [...args, '--work-dir', work.path], { env });
    expectFailure(failed, {
      exit: 1,
      message: /cannot be tried here: PostgreSQL does not run as root, and there is no user postgres or nobody/,
      hint: /run pgark as another user/,
    });
    expect((await storage.keys()).filter((key) => key.includes('/proofs/'))).toEqual([]);
    await work.expectEmpty();
  });
});
