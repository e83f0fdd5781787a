import { describe, expect, test } from 'vitest';
import { fileStorages } from '../../test/support/file-storages.ts';
import { globalsRecord, makeGlobalsId } from '../../test/support/globals.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { keys } from '../repository/keys.ts';
import { commitGlobals } from '../repository/globals.ts';

const URL = 'postgres://u:p@127.0.0.1:1';
const NEW_SERVER = ['--to-url', URL];

describe('restore of a whole server refuses', () => {
  test.each([
    [['--all'], '--all needs to know into which server'],
    [['--globals', '--plan'], '--globals needs to know into which server'],
    [['--all', '--globals', ...NEW_SERVER], 'say one of --all and --globals'],
    [['shop', 'latest', '--all', ...NEW_SERVER], 'takes one source, not 2 names'],
    [['--globals', '--jobs', '2', ...NEW_SERVER], '--jobs does not go with --globals'],
    [['--globals', '--exclude-database', 'x', ...NEW_SERVER], '--exclude-database does not go with --globals'],
    [['20261120T020000Z-gabcdef', '--globals', '--at', '2026-11-20', ...NEW_SERVER], '--at does not go with 20261120'],
    [['--all', '--database-settings', ...NEW_SERVER], '--database-settings does not go with --all'],
    [['--all', '--to-db', 'x', ...NEW_SERVER], '--to-db does not go with --all'],
    [['--all', '--table', 'x', ...NEW_SERVER], '--table does not go with --all'],
    [['latest', '--to-db', 'x', '--exclude-database', 'y'], '--exclude-database goes with --all'],
    [['latest', '--to-db', 'x', '--no-globals'], '--no-globals goes with --all'],
    [['latest', '--to-db', 'x', '--overwrite-roles'], '--overwrite-roles goes with --globals or --all'],
    [['latest', '--to-db', 'x', '--no-role-passwords'], '--no-role-passwords goes with --globals or --all'],
    [['latest', '--to-db', 'x', '--database-settings'], '--database-settings goes with --globals'],
    [['--to-dir', 'x', '--no-tablespaces'], '--no-tablespaces is for databases'],
  ])('%j', async (args, words) => {
    await using storages = await fileStorages('near');
    expect(await storages.run('restore', ...args)).toMatchObject({ exit: 2, stderr: expect.stringContaining(words) });
  });
});

describe('which source it is of', () => {
  test.each([
    ['--all', 'there is no backup of a database of shop; there are backups of first, second'],
    ['--globals', 'no roles and tablespaces of shop are stored'],
  ])('the configured one is meant where none is named, and told with what there is: %s', async (what, words) => {
    await using storages = await fileStorages('near', 'far');
    await seed(storages);
    const { exit, stderr } = await storages.run('restore', what, ...NEW_SERVER);
    expect({ exit, stderr: stderr.replaceAll(/\s+/g, ' ') }).toEqual({
      exit: 10,
      stderr: expect.stringContaining(words),
    });
    expect(stderr).toMatch(/first(?:.|\n)*second/);
  });

  // It goes on to the server, which is not there, and to the object, which was never stored.
  test.each([
    ['--all', 'cannot reach PostgreSQL at 127.0.0.1:1'],
    ['--globals', 'there is no object "second/globals/'],
  ])('one that only a storage knows can be named: %s', async (what, words) => {
    await using storages = await fileStorages('near', 'far');
    await seed(storages);
    const { stderr } = await storages.run('restore', 'second', what, ...NEW_SERVER);
    expect(stderr).toContain(words);
  });

  test('a storage that is away is passed over and told of; where all are, nothing is known', async () => {
    await using storages = await fileStorages('near', 'far');
    await seed(storages);
    await storages.takeAway('far');
    const one = await storages.run('restore', 'first', '--all', ...NEW_SERVER);
    expect(one.stderr).toContain('storage far is passed over');
    await storages.takeAway('near');
    const none = await storages.run('restore', 'first', '--all', ...NEW_SERVER);
    expect(none.stderr).not.toContain('there is no backup');
  });
});

test('what is damaged and may be the newest is told of, for the source that is meant', async () => {
  await using storages = await fileStorages('near', 'far');
  await seed(storages);
  const key = keys.globalsRecord('first', makeGlobalsId());
  for (const each of [key, keys.globalsRecord('second', makeGlobalsId())]) {
    await storages.open('near').putSmall(each, Buffer.from('no JSON'));
  }
  const { stderr } = await storages.run('restore', 'first', '--globals', ...NEW_SERVER);
  expect(stderr).toContain(key);
  expect(stderr).not.toContain('globals/second');
});

/** A source in each storage. */
async function seed(storages: Awaited<ReturnType<typeof fileStorages>>): Promise<void> {
  for (const [storage, source] of [
    ['near', 'first'],
    ['far', 'second'],
  ] as const) {
    const store = storages.open(storage);
    await seedBackups(store, { source, database: 'app', times: [new Date('2026-11-20T02:00:00Z')] });
    await commitGlobals(store, globalsRecord(makeGlobalsId(), { source }));
  }
}
