import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ConnectionConfig } from './connection.ts';
import { loadConfig } from './load.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgark-config-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

type Env = Record<string, string>;

async function connect(env: Env): Promise<ConnectionConfig & { readonly name: string }> {
  const config = await loadConfig({ env, cwd: dir });
  const [source] = config.databases.values();
  if (source === undefined) throw new Error('there is no source');
  return { ...source.connection, name: source.name };
}

const usual = { host: 'db', port: 5432, user: 'app', database: 'shop', sslMode: 'prefer' };

describe('the database by environment names', () => {
  test.each<[string, Env]>([
    ['DATABASE_URL', { DATABASE_URL: 'postgres://app:pw@db/shop' }],
    ['POSTGRES_CONNECTION_STRING', { POSTGRES_CONNECTION_STRING: 'postgresql://app:pw@db:5432/shop' }],
    ['POSTGRES_*', { POSTGRES_HOST: 'db', POSTGRES_USER: 'app', POSTGRES_PASSWORD: 'pw', POSTGRES_DB: 'shop' }],
    ['PG*', { PGHOST: 'db', PGPORT: '5432', PGUSER: 'app', PGPASSWORD: 'pw', PGDATABASE: 'shop' }],
    ['PG* with PG_PASSWORD', { PGHOST: 'db', PGUSER: 'app', PG_PASSWORD: 'pw', PGDATABASE: 'shop' }],
    [
      'an URL that PG* completes',
      { DATABASE_URL: 'postgres://db', PGUSER: 'app', PGPASSWORD: 'pw', PGDATABASE: 'shop' },
    ],
    [
      'an URL whose host PG* says',
      { DATABASE_URL: 'postgres:///shop', PGHOST: 'db', PGPORT: '5432', PGUSER: 'app', PGPASSWORD: 'pw' },
    ],
    [
      'groups that agree',
      {
        DATABASE_URL: 'postgres://app:pw@db/shop',
        POSTGRES_HOST: 'DB',
        POSTGRES_PORT: '5432',
        POSTGRES_PASSWORD: 'pw',
        PGDATABASE: 'shop',
      },
    ],
    ['empty variables beside it', { DATABASE_URL: 'postgres://app:pw@db/shop', PGHOST: '', POSTGRES_DB: '' }],
  ])('%s names it', async (_title, env) => {
    const connection = await connect(env);
    expect(connection).toMatchObject(usual);
    expect(connection.password?.reveal()).toBe('pw');
    expect(connection.name).toBe('shop');
  });

  test('PG* fills sslmode, certificates and passfile of any group, and an URL’s own sslmode wins', async () => {
    const libpq = { PGSSLMODE: 'verify-full', PGSSLROOTCERT: '/ca.pem', PGPASSFILE: '/pgpass' };
    const filled = { sslMode: 'verify-full', sslRootCert: '/ca.pem', passFile: '/pgpass' };
    expect(await connect({ ...libpq, DATABASE_URL: 'postgres://app@db/shop' })).toMatchObject(filled);
    expect(await connect({ ...libpq, POSTGRES_HOST: 'db', POSTGRES_USER: 'app', POSTGRES_DB: 'shop' })).toMatchObject(
      filled,
    );
    expect(await connect({ ...libpq, DATABASE_URL: 'postgres://app@db/shop?sslmode=require' })).toMatchObject({
      ...filled,
      sslMode: 'require',
    });
  });

  test('the first complete group counts, so that leftovers of another do no harm', async () => {
    expect(await connect({ POSTGRES_USER: 'app', PGHOST: 'db', PGUSER: 'app', PGDATABASE: 'shop' })).toMatchObject(
      usual,
    );
  });

  test('BACKUP_NAME names the source', async () => {
    expect((await connect({ DATABASE_URL: 'postgres://app@db/shop', BACKUP_NAME: 'eu' })).name).toBe('eu');
  });

  test.each<[string, Env, readonly string[]]>([
    [
      'another host',
      { DATABASE_URL: 'postgres://app@db/shop', PGHOST: 'elsewhere' },
      ['PGHOST', 'DATABASE_URL', 'host'],
    ],
    [
      'another user',
      { DATABASE_URL: 'postgres://app@db/shop', POSTGRES_USER: 'root' },
      ['POSTGRES_USER', 'DATABASE_URL', 'user'],
    ],
    [
      'another database',
      { DATABASE_URL: 'postgres://app@db/shop', PGDATABASE: 'crm' },
      ['PGDATABASE', 'DATABASE_URL', 'database'],
    ],
    [
      'another port',
      { DATABASE_URL: 'postgres://app@db:5433/shop', PGPORT: '5432' },
      ['PGPORT', 'DATABASE_URL', 'port'],
    ],
    [
      'a port where the URL means the usual one',
      { DATABASE_URL: 'postgres://app@db/shop', PGPORT: '6432' },
      ['PGPORT', 'DATABASE_URL'],
    ],
    [
      'another URL',
      { DATABASE_URL: 'postgres://app@db/shop', POSTGRES_CONNECTION_STRING: 'postgres://app@db/crm' },
      ['POSTGRES_CONNECTION_STRING', 'DATABASE_URL'],
    ],
    [
      'another password',
      { DATABASE_URL: 'postgres://app:one-secret@db/shop', PGPASSWORD: 'two-secret' },
      ['PGPASSWORD', 'DATABASE_URL'],
    ],
    [
      'two passwords of libpq',
      { PGHOST: 'db', PGUSER: 'app', PGDATABASE: 'shop', PGPASSWORD: 'one-secret', PG_PASSWORD: 'two-secret' },
      ['PGPASSWORD', 'PG_PASSWORD'],
    ],
    [
      'a password of another group',
      { DATABASE_URL: 'postgres://app@db/shop', POSTGRES_PASSWORD: 'two-secret' },
      ['POSTGRES_PASSWORD', 'DATABASE_URL'],
    ],
    [
      'POSTGRES_* against PG*',
      { POSTGRES_HOST: 'db', POSTGRES_USER: 'app', POSTGRES_DB: 'shop', PGHOST: 'replica' },
      ['PGHOST', 'POSTGRES_HOST'],
    ],
  ])('%s is a conflict that names both variables', async (_title, env, words) => {
    const error = await connect(env).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'config-conflict', exitCode: 1 });
    for (const word of words) expect(String(error)).toContain(word);
    expect(String(error)).not.toMatch(/one-secret|two-secret/);
  });

  test('a group that only repeats a part is none, whatever the port it leaves out', async () => {
    expect(await connect({ DATABASE_URL: 'postgres://app@db:5433/shop', PGHOST: 'db' })).toMatchObject({ port: 5433 });
  });

  test('nothing at all: one error names every way', async () => {
    const error = await loadConfig({ env: {}, cwd: dir }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'config-missing', exitCode: 1 });
    for (const name of ['DATABASE_URL', 'POSTGRES_HOST', 'POSTGRES_PASSWORD', 'PGHOST', 'PGDATABASE']) {
      expect(String(error)).toContain(name);
    }
  });

  test.each<[string, Env, readonly string[]]>([
    ['POSTGRES_*', { POSTGRES_HOST: 'db' }, ['POSTGRES_USER', 'POSTGRES_DB']],
    ['PG*', { PGDATABASE: 'shop' }, ['PGHOST', 'PGUSER']],
    ['an URL', { DATABASE_URL: 'postgres://db' }, ['names no user', 'names no database']],
  ])('what is missing of %s is named at once, and never taken from another group', async (_title, env, names) => {
    const error = await connect(env).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'config-missing', exitCode: 1 });
    for (const name of names) expect(String(error)).toContain(name);
  });

  test.each<[string, Env]>([
    ['DATABASE_URL', { DATABASE_URL: 'postgres://app:hunter2@db:x/shop' }],
    ['POSTGRES_PORT', { POSTGRES_HOST: 'db', POSTGRES_USER: 'app', POSTGRES_DB: 'shop', POSTGRES_PORT: '70000' }],
    ['PGSSLMODE', { DATABASE_URL: 'postgres://app@db/shop', PGSSLMODE: 'on' }],
  ])('a wrong %s is named', async (name, env) => {
    const error = await connect(env).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'config-invalid', exitCode: 1 });
    expect(String(error)).toContain(name);
    expect(String(error)).not.toContain('hunter2');
  });

  describe('NAME_FILE', () => {
    test('stands for NAME, without one newline at its end', async () => {
      await writeFile(join(dir, 'password'), 'pw \n\n');
      const connection = await connect({ DATABASE_URL: 'postgres://app@db/shop', PGPASSWORD_FILE: 'password' });
      expect(connection.password?.reveal()).toBe('pw \n');
    });

    test('works for a whole URL', async () => {
      await writeFile(join(dir, 'url'), 'postgres://app:pw@db/shop\r\n');
      expect(await connect({ DATABASE_URL_FILE: join(dir, 'url') })).toMatchObject(usual);
    });

    test('beside NAME is a conflict', async () => {
      const error = await connect({ PGPASSWORD: 'one-secret', PGPASSWORD_FILE: 'password' }).catch(
        (reason: unknown) => reason,
      );
      expect(String(error)).toContain('PGPASSWORD_FILE: is set beside PGPASSWORD');
      expect(String(error)).not.toContain('one-secret');
    });

    test('that cannot be read is named with its path', async () => {
      const env = { DATABASE_URL: 'postgres://app@db/shop', PGPASSWORD_FILE: '/nowhere/at/all' };
      const error = await connect(env).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'config-unreadable', exitCode: 1 });
      expect(String(error)).toMatch(/PGPASSWORD_FILE: cannot read \/nowhere\/at\/all/);
    });

    test('that is empty counts as unset', async () => {
      await writeFile(join(dir, 'empty'), '\n');
      const connection = await connect({ DATABASE_URL: 'postgres://app@db/shop', PGPASSWORD_FILE: 'empty' });
      expect(connection.password).toBeUndefined();
    });
  });

  describe('for a command that needs only the storage', () => {
    test.each<[string, Env]>([
      ['is missing', {}],
      ['is incomplete', { POSTGRES_HOST: 'db' }],
      ['contradicts itself', { DATABASE_URL: 'postgres://app@db/shop', PGHOST: 'other' }],
      ['is wrong', { DATABASE_URL: 'nonsense' }],
      ['has a wrong port', { POSTGRES_HOST: 'db', POSTGRES_USER: 'u', POSTGRES_DB: 'd', POSTGRES_PORT: 'x' }],
      ['has an unreadable password', { DATABASE_URL: 'postgres://app@db/shop', PGPASSWORD_FILE: '/nowhere' }],
    ])('a database that %s does no harm and is not there', async (_title, env) => {
      const config = await loadConfig({ env, cwd: dir, needs: ['storage'] });
      expect([...config.databases.keys()]).toEqual([]);
      expect([...config.storages.keys()]).toEqual(['default']);
    });

    test('a schedule that is wrong is still an error', async () => {
      const error = await loadConfig({ env: { BACKUP_SCHEDULE: '61 * * * *' }, cwd: dir, needs: ['storage'] }).catch(
        (reason: unknown) => reason,
      );
      expect(error).toMatchObject({ code: 'cron-invalid', exitCode: 2 });
    });
  });
});
