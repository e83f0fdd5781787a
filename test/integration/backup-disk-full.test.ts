import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import {
  expectFailure,
  expectRestores,
  expectUntouched,
  fileStorage,
  filler,
  substance,
  succeed,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { smallDisk } from '../support/small-disk.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

describe('a storage directory on a disk of 10 MB', () => {
  test('is full in mid-backup: the room is free again, and the backup that was there restores', async () => {
    await using disk = await smallDisk();
    await using storage = await fileStorage(disk.path);
    await using database = await createDatabase({ sql: filler(1) });
    const env = { ...storage.env, DATABASE_URL: database.url, BACKUP_COMPRESSION: 'none' };
    await succeed(['backup'], env);
    const before = await substance(storage);
    const free = await disk.freeBytes();
    await using tooLarge = await createDatabase({ sql: filler(16) });
    const result = await runPgark(['backup'], { env: { ...env, DATABASE_URL: tooLarge.url } });
    expectFailure(result, {
      exit: 1,
      message: /cannot write the object .*: there is no room left on its file system \(ENOSPC\)/,
      hint: /free space or raise the quota; the backups that were there are untouched/,
    });
    await expectUntouched(storage, before);
    // But for the record of the failed run, its lease and their folders.
    expect(free - (await disk.freeBytes())).toBeLessThan(256 * 1024);
    await expectRestores(database, storage, { backup: before.find((key) => key.endsWith('.sql')) ?? '' });
    await succeed(['backup'], env);
  });

  test('is full to the last byte: prune names what to delete by hand, and goes on when that is done', async () => {
    await using disk = await smallDisk();
    await using storage = await fileStorage(disk.path);
    await using database = await createDatabase({ sql: filler(1) });
    await using directory = await makeTempDirectory();
    const config = directory.join('pgark.yaml');
    const settings = {
      version: 1,
      defaults: { compression: 'none' },
      storages: { disk: { type: 'file', path: disk.path } },
      retention: { two: { keep: { last: 2 }, min_backups: 1 } },
      databases: { shop: { url: database.url, jobs: { plain: { format: 'plain', to: ['disk'], retention: 'two' } } } },
    };
    await writeFile(config, JSON.stringify(settings));
    for (let made = 0; made < 3; made += 1) await succeed(['backup', '--no-prune', '--config', config], {});
    const dumps = async () =>
      (await storage.keys()).filter((key) => key.endsWith('.sql') && !key.includes('/globals/'));
    const backups = await dumps();
    await writeFile(join(disk.path, 'ballast'), Buffer.alloc(16 * MIB)).catch(() => {});
    expect(await disk.freeBytes()).toBe(0);
    const prune = () => runPgark(['prune', '--config', config], { env: {} });
    const refused = await prune();
    const [, manifest, data] = /works here: (.+?), then (.+)$/m.exec(refused.stderr) ?? [];
    expectFailure(refused, { exit: 1, message: /no room for its own notes/, hint: /delete by hand/ });
    expect(data).toBe(backups[0]);
    for (const key of [manifest, data]) await rm(join(disk.path, key ?? ''));
    expect((await prune()).exitCode).toBe(0);
    expect(await dumps()).toEqual(backups.slice(1));
  });
});
