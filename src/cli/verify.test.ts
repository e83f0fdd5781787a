import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type FileStorages, fileStorages } from '../../test/support/file-storages.ts';
import { manifestOf, oneBlock } from '../../test/support/repository-place.ts';
import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import { makeBackupId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';

const SQL = '--\n-- PostgreSQL database dump complete\n--\n\n';

/** Commits a backup of a database without anything in it, whole. */
async function addTo(storages: FileStorages, name: string, database: string): Promise<string> {
  const store = storages.open(name);
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  await repository.initialise({ pgarkVersion: '0.1.0' });
  const id = makeBackupId(new Date(), 'p', systemRandom);
  const plain = manifestOf(id, database, [`${database}.sql`]);
  const sha256 = createHash('sha256').update(SQL).digest('hex');
  const size = { storedBytes: SQL.length, storedSha256: sha256, plainBytes: SQL.length, plainSha256: sha256 };
  await store.putStream(`${database}.sql`, oneBlock(SQL));
  const objects = plain.objects.map((each) => ({ ...each, ...size }));
  const manifest: Manifest = { ...plain, source: database, objects, compression: { algorithm: 'none', level: 0 } };
  await repository.commit(manifest);
  return id;
}

describe('pgark verify of several storages, of which not all can be verified', () => {
  test('ends as the one that is away, where the others do not have the backup and nothing was verified', async () => {
    await using storages = await fileStorages('near', 'far');
    await addTo(storages, 'near', 'shop');
    const id = await addTo(storages, 'far', 'shop');
    await storages.takeAway('far');
    const alone = await storages.run('verify', id, '--storage', 'far');
    expect([0, 4, 10]).not.toContain(alone.exit);
    const { exit, stdout, stderr } = await storages.run('verify', id);
    expect({ exit, stdout }).toEqual({ exit: alone.exit, stdout: '' });
    expect(stderr).toMatch(/no storage could be verified: near: Backup not found: .*; far: /);
  });

  test('shows what was verified, and ends with 4, where another one has several that may be meant', async () => {
    await using storages = await fileStorages('near', 'far');
    const id = await addTo(storages, 'near', 'shop');
    await addTo(storages, 'far', 'shop');
    await addTo(storages, 'far', 'desk');
    const { exit, stdout, stderr } = await storages.run('verify', 'latest', '-o', 'json');
    expect({ exit, stderr }).toEqual({
      exit: 4,
      stderr: expect.stringMatching(/1 of 2 storages could not be verified: far: there are backups of 2 databases/),
    });
    expect(JSON.parse(stdout)).toMatchObject({
      storages: [
        { storage: 'near', state: 'verified' },
        { storage: 'far', state: 'failed', error: { code: 'usage' } },
      ],
      backups: [{ id, storage: 'near', passed: true }],
    });
    await storages.takeAway('near');
    const unclear = await storages.run('verify', 'latest');
    expect(unclear).toMatchObject({ exit: 2, stdout: '' });
    expect(unclear.stderr).toMatch(/there are backups of 2 databases/);
  });
});
