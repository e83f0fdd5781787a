import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/postgres/client/connect.ts';
import { fileStorage, pgarkJson, succeed } from '../support/backups.ts';
import { Cluster } from '../support/cluster.ts';

/** A standby has their definitions, and not one of their rows. */
const SQL = `CREATE TABLE logged AS SELECT generate_series(1, 100) AS n;
  CREATE UNLOGGED TABLE sessions AS SELECT generate_series(1, 100) AS n;
  CREATE UNLOGGED TABLE "Odd name" AS SELECT 1 AS n`;
const NAMES = 'public."Odd name", public.sessions';

interface ShownBackup {
  readonly backup: { readonly id: string; readonly unreadable: readonly string[]; readonly unreadable_count: number };
}

let primary: Cluster;
let standby: Cluster;

beforeAll(async () => {
  primary = await Cluster.start();
  await primary.sql(SQL);
  standby = await primary.standby();
});
afterAll(async () => {
  await standby[Symbol.asyncDispose]();
  await primary[Symbol.asyncDispose]();
});

async function countsIn(database: string): Promise<unknown> {
  const session = await connect({ ...primary.connection, database }, { applicationName: 'test' });
  try {
    return await session.query(
      'SELECT (SELECT count(*)::int FROM logged) AS logged, (SELECT count(*)::int FROM sessions) AS sessions',
    );
  } finally {
    await session.close();
  }
}

describe.each(['plain', 'directory'])('a backup of a standby: format %s', (format) => {
  test.each([
    ['unencrypted', {}, NAMES.split(', '), `2 tables: ${NAMES}`],
    ['encrypted', { BACKUP_ENCRYPTION_KEY: 'a passphrase of more than thirty-two characters' }, [], '2 tables'],
  ])('says that it has no rows of unlogged tables, and so does its restore: %s', async (which, key, names, told) => {
    await using storage = await fileStorage();
    const env = { ...storage.env, ...key, DATABASE_URL: standby.url };
    const { stderr } = await succeed(['backup', '--format', format], env);
    expect(stderr).toContain(`no rows of 2 tables: ${NAMES}`);
    const { backup } = await pgarkJson<ShownBackup>(['show', 'latest'], env);
    expect(backup).toMatchObject({ unreadable: names, unreadable_count: 2 });
    expect((await succeed(['show', 'latest'], env)).stdout).toMatch(
      new RegExp(`has no rows of\\s+${told} \\(unlogged, and it was taken from a standby\\)`),
    );
    const to = new URL(primary.url);
    to.pathname = `restored_${format}_${which}`;
    const restored = await succeed(['restore', 'latest', '--to-url', to.href], env);
    expect(restored.stderr).toContain(`the backup has no rows of ${told}: they are unlogged`);
    expect(await countsIn(to.pathname.slice(1))).toEqual([{ logged: 100, sessions: 0 }]);
  });
});

test('a backup of their primary has all rows, and says nothing', async () => {
  await using storage = await fileStorage();
  const env = { ...storage.env, DATABASE_URL: primary.url };
  const { stderr } = await succeed(['backup'], env);
  expect(stderr).not.toContain('no rows of');
  expect((await pgarkJson<ShownBackup>(['show', 'latest'], env)).backup).toMatchObject({
    unreadable: [],
    unreadable_count: 0,
  });
  expect((await succeed(['show', 'latest'], env)).stdout).not.toContain('no rows of');
});
