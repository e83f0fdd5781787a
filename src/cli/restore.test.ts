import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeBackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { serialiseManifest } from '../repository/manifest.ts';
import { runCli } from './program.ts';

const ID = makeBackupId(new Date('2026-11-20T02:03:04Z'), 'p', systemRandom);

/** Puts the manifest of a backup of `database` into the directory; its data is missing. */
async function putManifest(directory: string, database: string): Promise<void> {
  const store = await cliWorld(recordingTerminal()).adapters.openStore(
    { name: 'default', type: 'file', path: directory, retry: { retriesMax: 0, delayMs: 1, delayMsMax: 1 } },
    silentLogger,
  );
  const manifest = { ...manifestOf(ID, database, ['gone.sql.gz']), source: database };
  await store.putSmall(keys.manifest(database, database, ID), serialiseManifest(manifest));
  await store.close();
}

describe('restore --in-place', () => {
  test.each([
    [
      'a backup of another database, without its name, is refused',
      'orders',
      [ID],
      2,
      'is a backup of database "orders"',
    ],
    ['by its name it goes on', 'orders', ['orders', ID], 20, 'gone.sql.gz'],
    ['a backup of the same database goes on', 'shop', [ID], 20, 'gone.sql.gz'],
  ])('%s', async (_title, database, what, exit, words) => {
    await using folder = await makeTempDirectory();
    await putManifest(folder.path, database);
    const terminal = recordingTerminal();
    const environment = {
      DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop',
      BACKUP_STORAGE: `file://${folder.path}`,
    };
    const argv = ['restore', ...what, '--in-place', '--yes', 'shop'];
    // The data is missing, so that a restore that is not refused ends before it asks a server.
    expect({ exit: await runCli(argv, cliWorld(terminal, environment)), err: terminal.stderr() }).toEqual({
      exit,
      err: expect.stringContaining(words),
    });
    if (exit === 2) expect(terminal.stderr()).toContain(`pgark restore orders ${ID}`);
  });
});

describe('the database to restore into', () => {
  test.each([
    ['with an empty name', ['--to-db', ''], '--to-db needs the name of a database'],
    ['with 64 bytes', ['--to-db', 'd'.repeat(64)], 'by 64 bytes; PostgreSQL takes 63 at most'],
    ['with few letters of many bytes', ['--to-db', 'Ü'.repeat(32)], 'by 64 bytes'],
    [
      'with 64 bytes in a URL',
      ['--to-url', `postgres://u:p@127.0.0.1:1/${'d'.repeat(64)}`],
      '--to-url names a database',
    ],
  ])('%s is wrong usage', async (_title, target, words) => {
    await using folder = await makeTempDirectory();
    await putManifest(folder.path, 'shop');
    const terminal = recordingTerminal();
    const environment = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop', BACKUP_STORAGE: `file://${folder.path}` };
    const exit = await runCli(['restore', 'latest', ...target], cliWorld(terminal, environment));
    expect({ exit, err: terminal.stderr() }).toEqual({ exit: 2, err: expect.stringContaining(words) });
  });
});

describe('restore --clean of a database with protection: production', () => {
  const url = 'postgres://u:p@db.example:5432/shop';
  test.each([
    ['by its name', ['--to-db', 'shop'], ''],
    ['by a URL', ['--to-url', 'postgres://admin:q@DB.example/shop'], ''],
    ['one of several of the server', ['--to-db', 'shop'], '[ "shop*", "!*_scratch" ]'],
  ])('%s is confirmed by its name', async (_title, target, databases) => {
    await using folder = await makeTempDirectory();
    await putManifest(folder.path, 'shop');
    const file = folder.join('pgark.yaml');
    const lines = [
      'version: 1',
      `storages: { disk: { type: file, path: ${JSON.stringify(folder.path)} } }`,
      'databases:',
      `  shop: { url: "${url}", protection: production${databases === '' ? '' : `, databases: ${databases}`}, jobs: { nightly: { to: [disk] } } }`,
    ];
    await writeFile(file, lines.join('\n'));
    const restore = async (...more: readonly string[]): Promise<{ readonly exit: number; readonly err: string }> => {
      const terminal = recordingTerminal();
      const argv = ['restore', 'shop', ID, ...target, ...more, '--config', file];
      return { exit: await runCli(argv, cliWorld(terminal)), err: terminal.stderr() };
    };
    const refused = { exit: 2, err: expect.stringContaining('repeat it with --clean --yes shop') };
    expect(await restore('--clean')).toEqual(refused);
    expect(await restore('--clean', '--yes', 'orders')).toEqual(refused);
    // The data is missing, so that a restore that is not refused ends before it asks a server.
    const goesOn = { exit: 20, err: expect.stringContaining('gone.sql.gz') };
    expect(await restore('--clean', '--yes', 'shop')).toEqual(goesOn);
    expect(await restore()).toEqual(goesOn);
    // No pattern chooses it.
    target.splice(0, 2, '--to-db', 'scratch');
    expect(await restore('--clean')).toEqual(goesOn);
  });
});
