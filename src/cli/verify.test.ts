import { describe, expect, test } from 'vitest';
import { type FileStorages, fileStorages } from '../../test/support/file-storages.ts';
import { addWholeBackup } from '../../test/support/whole-backup.ts';
import { PgarkError } from '../common/errors.ts';

async function addTo(storages: FileStorages, name: string, database: string): Promise<string> {
  const { id } = await addWholeBackup(storages.open(name), database);
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

test('pgark verify names what a storage does not give, and ends with 4 as long as nothing is damaged', async () => {
  await using storages = await fileStorages('near');
  const [kept, id] = [await addTo(storages, 'near', 'shop'), await addTo(storages, 'near', 'desk')];
  storages.disturb('near', {
    before: ({ method, key }) => {
      if (method === 'get' && key.startsWith('desk_'))
        throw new PgarkError('store-access-denied', `no right to ${key}`);
    },
  });
  const { exit, stdout, stderr } = await storages.run('verify', '-o', 'json');
  expect({ exit, stderr }).toEqual({
    exit: 4,
    stderr: expect.stringContaining(`1 of 2 backups could not be read: ${id}: no right to desk_${id}.sql`),
  });
  expect(JSON.parse(stdout)).toMatchObject({
    backups: expect.arrayContaining([
      expect.objectContaining({ id: kept, passed: true }),
      expect.objectContaining({ id, passed: false }),
    ]),
  });
});
