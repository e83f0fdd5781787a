import { expect, test } from 'vitest';
import { ProgramFailure } from '../../common/child-process.ts';
import { LOCK_ROOM_HINT } from '../dump-failure.ts';
import { explainTocFailure } from './toc-failure.ts';

const connection = { host: 'db', port: 5432, user: 'backup', database: 'shop', sslMode: 'disable' } as const;
const LOCK = 'pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE';
const OTHER = 'pg_dump: detail: Query was: SELECT pg_catalog.pg_get_viewdef …';

async function meaningOf(words: string, query: string, messages: string) {
  const failure = new ProgramFailure('pg_dump', 'exited with 1', [`pg_dump: error: query failed: ${words}`, query]);
  return explainTocFailure(failure, connection, async () => ({ messages, mayChoose: false }));
}

test.each([
  ['FEHLER:  storniere Anfrage wegen Zeitüberschreitung einer Anweisung', LOCK, 'de_DE.UTF-8'],
  ['FEHLER:  Relation »t« existiert nicht', OTHER, 'de_DE.UTF-8'],
  ['FEHLER:  Relation »t« existiert nicht', OTHER, 'C.UTF-8'],
  ['ERROR:  no existe la relación «t»', OTHER, 'es_ES.UTF-8'],
  ['ERROR:  cache lookup failed for function 7', OTHER, 'C'],
])('%s (%s, %s) may have missed what was changed', async (words, query, messages) => {
  const meant = await meaningOf(words, query, messages);
  expect(meant).toMatchObject({ name: 'CatalogueChanged', cause: { code: 'dump-failed' } });
});

test('a lock that pg_dump was kept from is known in English', async () => {
  const words = 'ERROR:  canceling statement due to statement timeout';
  expect(await meaningOf(words, LOCK, 'C.UTF-8')).toMatchObject({ name: 'TablesChanged' });
});

test.each(['C', 'C.UTF-8', 'POSIX', 'en_US.UTF-8', '', 'es_ES.UTF-8'])(
  'a server without room for locks is told at once and for what it is: lc_messages %s',
  async (messages) => {
    const meant = await meaningOf('ERROR:  out of shared memory', LOCK, messages);
    expect(meant).toMatchObject({ code: 'dump-failed', hint: LOCK_ROOM_HINT });
  },
);

test.each(['C', 'C.UTF-8', 'POSIX', 'en_US.UTF-8'])(
  'what a server said in English means no more than it says: lc_messages %s',
  async (messages) => {
    const meant = await meaningOf('ERROR:  invalid page in block 7 of relation base/5/1259', OTHER, messages);
    expect(meant).toMatchObject({ name: 'PgarkError', code: 'dump-failed' });
  },
);

test('what was said before any query means no more than it says', async () => {
  const failure = new ProgramFailure('pg_dump', 'exited with 1', ['pg_dump: error: aborting']);
  const meant = await explainTocFailure(failure, connection, () => expect.unreachable());
  expect(meant).toMatchObject({ code: 'dump-failed' });
});
