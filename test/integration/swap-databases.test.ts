import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { connect, type Session } from '../../src/postgres/client/connect.ts';
import { renameLoaded, swapDatabases } from '../../src/postgres/client/swap-databases.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, openDatabase, runAsSuperuser } from '../support/postgres.ts';
import { databaseNames } from '../support/restoring.ts';

async function maintenance(): Promise<Session & AsyncDisposable> {
  const { password, ...server } = postgresFacts();
  const session = await connect(
    { ...server, password: new Secret(password), database: 'postgres', sslMode: 'disable' },
    { applicationName: 'pgark test' },
  );
  return Object.assign(session, { [Symbol.asyncDispose]: () => session.close() });
}

/** The session is cut at COMMIT, before the server has seen it or after the server has carried it out. */
function cutAtCommit(session: Session, when: 'before' | 'after'): Session {
  const query: Session['query'] = async (sql, values) => {
    if (sql !== 'COMMIT') return session.query(sql, values);
    if (when === 'after') await session.query(sql);
    await session.close();
    throw new Error('the connection was cut');
  };
  return { parameters: session.parameters, query } as Session;
}

async function commentOf({ name }: { readonly name: string }): Promise<string | null | undefined> {
  const [row] = await runAsSuperuser<{ comment: string | null }>(
    `SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1`,
    [name],
  );
  return row?.comment;
}

describe('the exchange of two databases', { timeout: 300_000 }, () => {
  test.each([
    ['before', false],
    ['after', true],
  ] as const)('whose session is cut %s the server commits: %s', async (when, exchanged) => {
    await using current = await createDatabase({ name: 'current', sql: 'CREATE TABLE old AS SELECT 1' });
    await using loaded = await createDatabase({ name: 'loaded', sql: 'CREATE TABLE new AS SELECT 1' });
    await using kept = openDatabase(`${current.name} kept`);
    await using session = await maintenance();
    await using helper = await maintenance();
    await runAsSuperuser(`COMMENT ON DATABASE ${escapeIdentifier(loaded.name)} IS 'not complete'`);
    const names = { current: current.name, loaded: loaded.name, keepAs: kept.name };
    const swapped = swapDatabases(cutAtCommit(session, when), helper, names);
    if (exchanged) await swapped;
    else await expect(swapped).rejects.toThrow('the connection was cut');
    expect(await databaseNames(current.name)).toEqual(exchanged ? [current.name, kept.name] : [current.name]);
    expect(await databaseNames(loaded.name)).toEqual(exchanged ? [] : [loaded.name]);
    const tables = await current.query('SELECT FROM pg_tables WHERE tablename = $1', [exchanged ? 'new' : 'old']);
    expect(tables).toHaveLength(1);
    expect(await commentOf(exchanged ? current : loaded)).toBe(exchanged ? null : 'not complete');
  });

  test.each([
    ['before', false],
    ['after', true],
  ] as const)('for a loaded one alone, whose session is cut %s the server commits: %s', async (when, renamed) => {
    await using loaded = await createDatabase({ name: 'loaded' });
    await using current = openDatabase(`${loaded.name} by its name`);
    await using session = await maintenance();
    await using helper = await maintenance();
    await runAsSuperuser(`COMMENT ON DATABASE ${escapeIdentifier(loaded.name)} IS 'not complete'`);
    const names = { loaded: loaded.name, current: current.name };
    const renaming = renameLoaded(cutAtCommit(session, when), helper, names);
    if (renamed) await renaming;
    else await expect(renaming).rejects.toThrow('the connection was cut');
    expect(await databaseNames(loaded.name)).toEqual([renamed ? current.name : loaded.name]);
    expect(await commentOf(renamed ? current : loaded)).toBe(renamed ? null : 'not complete');
  });
});
