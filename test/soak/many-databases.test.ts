import { mkdir, writeFile } from 'node:fs/promises';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { runPgark } from '../support/cli.ts';
import { processUsage } from '../support/process-usage.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** At least two hundred, to be compared. */
const DATABASES = Number(process.env['PGARK_SOAK_DATABASES'] ?? '500');
/** What the run says of each database is kept until its end, some kilobytes for each; and memory is never quite still. */
const GROWTH_MIB_MAX = 8;
const TIMEOUT_MS = 20 * 60_000;

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

test(`pgark once backs ${DATABASES} databases of one server up in memory that stays flat`, {
  timeout: TIMEOUT_MS,
}, async () => {
  await using folder = await makeTempDirectory();
  await using server = await startThrowawayServer({ listen: 'tcp' });
  const client = new Client({ connectionString: server.url().reveal() });
  await client.connect();
  await client.query('CREATE DATABASE tiny');
  const inTemplate = new Client({ connectionString: server.url('tiny').reveal() });
  await inTemplate.connect();
  await inTemplate.query('CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 100) i');
  await inTemplate.end();
  for (let index = 1; index < DATABASES; index += 1) await client.query(`CREATE DATABASE tiny_${index} TEMPLATE tiny`);
  await client.end();
  await mkdir(folder.join('backups'));
  const config = {
    version: 1,
    storages: { near: { type: 'file', path: 'backups' } },
    retention: { week: { keep: { within: '7d' } } },
    databases: {
      main: {
        url: server.url().reveal(),
        databases: ['tiny*'],
        jobs: { nightly: { format: 'plain', retention: 'week' } },
      },
    },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));

  const started = Promise.withResolvers<number>();
  const samples: Promise<number>[] = [];
  const startedMs = performance.now();
  const result = await runPgark(['once', '--config', 'pgark.yaml', '-o', 'json'], {
    cwd: folder.path,
    env: { LOG_FORMAT: 'json' },
    onStarted: ({ pid }) => started.resolve(pid),
    onStderr: (text) => {
      // One at the end of each database.
      for (const _ of text.matchAll(/"event":"backup\.committed"/g)) {
        samples.push(started.promise.then(processUsage).then(({ rssBytes }) => rssBytes / MIB));
      }
    },
  });
  const seconds = (performance.now() - startedMs) / 1_000;
  expect(result.exitCode).toBe(0);
  const { results } = JSON.parse(result.stdout) as { readonly results: readonly { readonly state: string }[] };
  expect(results).toHaveLength(DATABASES);
  expect(results.every(({ state }) => state === 'committed')).toBe(true);

  const rssMib = await Promise.all(samples);
  expect(rssMib).toHaveLength(DATABASES);
  const [first, last] = [median(rssMib.slice(0, 100)), median(rssMib.slice(-100))];
  const most = Math.max(...rssMib);
  process.stdout.write(
    `${DATABASES} databases in ${seconds.toFixed(0)} s: ${first.toFixed(1)} MiB in the first hundred, ${last.toFixed(1)} MiB in the last, at most ${most.toFixed(1)} MiB\n`,
  );
  expect(last - first).toBeLessThan(GROWTH_MIB_MAX);
});
