import { expect, test } from 'vitest';
import { PgarkError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import type { Session } from '../../postgres/client/connect.ts';
import { loadGlobals } from './load-globals.ts';
import { type PlannedObject, statement } from './planned-object.ts';

function planned(kind: PlannedObject['kind'], ...sql: readonly string[]): PlannedObject {
  return { kind, name: 'x', action: 'overwrite', notes: [], statements: sql.map((each) => statement(each, each)) };
}

async function load(...objects: readonly PlannedObject[]) {
  const asked: string[] = [];
  const session = {
    alive: true,
    query: (sql: string) => {
      asked.push(sql);
      return sql === 'bad' ? Promise.reject(new PgarkError('postgres-failed', 'no')) : Promise.resolve([]);
    },
  };
  const context = { logger: silentLogger, signal: new AbortController().signal };
  const loaded = await loadGlobals(session as unknown as Session, objects, context);
  return { asked, failed: loaded.map(({ failures }) => failures.map(({ what }) => what)) };
}

test('what belongs to a database comes as a whole or not at all, and nothing else goes with it', async () => {
  const { asked, failed } = await load(
    planned('role', 'bad', 'one'),
    planned('database', 'revoke', 'bad', 'grant'),
    planned('database', 'revoke', 'grant'),
    planned('database'),
  );
  expect(asked.filter((sql) => !sql.startsWith('SET ')).join(' ')).toBe(
    'bad one BEGIN revoke bad ROLLBACK BEGIN revoke grant COMMIT',
  );
  expect(failed).toEqual([['bad'], ['bad'], [], []]);
});

test('what extensions keep of statements is switched off before a password is in one', async () => {
  const { asked } = await load(planned('role', 'create'));
  const before = asked.slice(0, asked.indexOf('create'));
  expect(before).toContain('SET pg_stat_statements.track_utility = off');
  expect(before).toContain('SET pgaudit.log = none');
});
