import { expect, test } from 'vitest';
import { silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import { dumpPlain } from '../../src/formats/plain/dump.ts';
import { chooseProgram, findPrograms } from '../../src/postgres/client/programs.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';

test('a dump gives up when another session keeps a table locked, and says where to look', async () => {
  await using database = await createDatabase({ sql: 'CREATE TABLE busy (a int); CREATE TABLE free (a int)' });
  const [facts] = await database.query<{ major: number }>(
    `SELECT current_setting('server_version_num')::int / 10000 AS major`,
  );
  const serverMajor = facts?.major ?? 0;
  const holder = await database.connect();
  await holder.query('BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE');
  const { password, ...server } = postgresFacts();
  const dump = dumpPlain({
    connection: { ...server, password: new Secret(password), database: database.name, sslMode: 'disable' },
    pgDump: chooseProgram('pg_dump', await findPrograms('pg_dump'), serverMajor),
    serverMajor,
    excludeTableData: [],
    applicationName: 'test',
    lockWaitMs: 300,
    logger: silentLogger,
  });
  const reading = (async () => {
    for await (const _ of dump);
  })();
  await expect(reading).rejects.toMatchObject({
    code: 'dump-failed',
    message: expect.stringContaining('canceling statement due to statement timeout'),
    hint: expect.stringMatching(/another session holds a lock .*pg_locks/),
  });
  await holder.end();
});
