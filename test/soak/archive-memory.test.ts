import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GIB, MIB } from '../../src/common/bytes.ts';
import { type CephServer, startCeph } from '../support/ceph.ts';
import { runPgark, runProgram } from '../support/cli.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { type MatrixServer, readMatrixFolders, startMatrixServer } from './matrix-servers.ts';
import { type ProcessUse, watchProcess } from './process-watch.ts';

const PEAK_BYTES_MAX = 256 * MIB;
const WRITTEN_BYTES_MAX = 64 * MIB;
const TABLE_BYTES = 3 * GIB;
/** About 480 bytes of text, which compresses four to one, and 40 of the row's own. */
const ROW_BYTES = 520;

const folders = await readMatrixFolders();
/** The newest server, so that Tid range scans are there, and a client of its own. */
const [major, binDir] = [...folders.servers].at(-1) ?? [0, ''];
const client = folders.clients.get(major) ?? [...folders.clients.values()].at(-1);

let server: MatrixServer;
let ceph: CephServer;

beforeAll(async () => {
  server = await startMatrixServer(major, binDir);
  ceph = await startCeph();
  await server.createDatabase('large');
  await server.query(
    `CREATE TABLE large AS
       SELECT n, md5(n::text) || repeat(md5((n % 5000)::text), 14) AS text FROM generate_series(1, ${Math.ceil(TABLE_BYTES / ROW_BYTES)}) n`,
    'large',
  );
}, 900_000);

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await ceph.stop();
});

const FINGERPRINT = 'SELECT count(*), sum(hashtextextended(large::text, 0)::numeric) FROM large';

/** pgark in a temporary directory of its own, and what it took. */
async function run(args: readonly string[], bucket: string, settings: Readonly<Record<string, string>>) {
  await using temporary = await makeTempDirectory();
  let watching: Promise<ProcessUse> | undefined;
  const startedAt = performance.now();
  const result = await runPgark(args, {
    env: {
      DATABASE_URL: server.url('large'),
      PGARK_CLIENT_DIR: client?.binDir ?? '',
      TMPDIR: temporary.path,
      S3_ENDPOINT: ceph.endpoint,
      S3_BUCKET: bucket,
      S3_ACCESS_KEY_ID: ceph.accessKey,
      S3_SECRET_ACCESS_KEY: ceph.secretKey,
      BACKUP_PREFIX: '/',
      ...settings,
    },
    onStarted: ({ pid }) => {
      watching = watchProcess(pid, temporary.path);
    },
  });
  expect(result, `pgark said: ${result.stderr}`).toMatchObject({ exitCode: 0 });
  const use = await watching;
  return {
    seconds: (performance.now() - startedAt) / 1000,
    ...(use ?? { peakBytes: 0, writtenBytes: 0, folderBytes: 0 }),
  };
}

async function createBucket(name: string): Promise<void> {
  const credentials = { accessKeyId: ceph.accessKey, secretAccessKey: ceph.secretKey };
  const s3 = new S3Client({ endpoint: ceph.endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
  await s3.send(new CreateBucketCommand({ Bucket: name }));
  s3.destroy();
}

test.each([
  [4, 'zstd'],
  [8, 'zstd'],
  [8, 'gzip'],
])(
  'a table of 3 GiB by %i connections, %s, to S3 and back, takes little memory and no disk',
  {
    timeout: 1_800_000,
  },
  async (jobs, compression) => {
    const bucket = `memory-${jobs}-${compression}`;
    await createBucket(bucket);
    const [table] = await server.query<{ bytes: string }>(`SELECT pg_table_size('large')::text AS bytes`, 'large');
    expect(Number(table?.bytes)).toBeGreaterThan(TABLE_BYTES);
    const settings = { BACKUP_FORMAT: 'directory', BACKUP_JOBS: String(jobs), BACKUP_COMPRESSION: compression };
    const dump = await run(['backup'], bucket, settings);
    const restore = await run(['restore', 'latest', '--to-db', 'copy', '--jobs', String(jobs)], bucket, settings);
    process.stdout.write(`${JSON.stringify({ jobs, compression, dump, restore })}\n`);
    expect(await server.query(FINGERPRINT, 'copy')).toEqual(await server.query(FINGERPRINT, 'large'));
    await server.query('DROP DATABASE copy');
    for (const use of [dump, restore]) {
      expect(use.peakBytes).toBeGreaterThan(40 * MIB);
      expect(use.peakBytes).toBeLessThan(PEAK_BYTES_MAX);
      expect(use.writtenBytes).toBeLessThan(WRITTEN_BYTES_MAX);
      expect(use.folderBytes).toBeLessThan(WRITTEN_BYTES_MAX);
    }
  },
);

test('a table of 3 GiB comes back by pg_restore alone', { timeout: 1_800_000 }, async () => {
  await using folder = await makeTempDirectory();
  const bucket = 'memory-4-zstd';
  await run(['download', 'latest', folder.join('archive')], bucket, { BACKUP_FORMAT: 'directory' });
  await server.createDatabase('copy');
  const program = path.join(client?.binDir ?? '', 'pg_restore');
  const restored = await runProgram(program, ['--exit-on-error', '--jobs=4', '--dbname=copy', folder.join('archive')], {
    env: server.environment('copy'),
  });
  expect(restored).toMatchObject({ exitCode: 0 });
  expect(await server.query(FINGERPRINT, 'copy')).toEqual(await server.query(FINGERPRINT, 'large'));
});
