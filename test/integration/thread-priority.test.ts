import { getPriority } from 'node:os';
import { expect, test } from 'vitest';
import { expectExit, fileStorage } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';

/** At the end of the process it tells how much nicer than the main thread each thread of the pool is. */
const TELLING = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { getPriority } from 'node:os';
  process.on('exit', () => {
    const pool = readdirSync('/proc/self/task').filter((thread) => {
      try {
        return readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim() === 'libuv-worker';
      } catch {
        return false; // It has ended.
      }
    });
    process.stderr.write('nicer ' + JSON.stringify(pool.map((thread) => getPriority(Number(thread)) - getPriority(0))) + '\\n');
  });`;

test('a backup is compressed by threads that give way to the one that reads', async () => {
  await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
  await using storage = await fileStorage();
  const result = await runPgark(['backup'], {
    env: {
      ...storage.env,
      DATABASE_URL: database.url,
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELLING)}`,
      UV_THREADPOOL_SIZE: '2',
    },
    ownProcess: true,
  });
  expectExit(result, 0);
  const nicer = Math.min(5, 19 - getPriority(0));
  expect(result.stderr).toContain(`nicer [${nicer},${nicer}]\n`);
});
