import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { startCeph } from '../../test/support/ceph.ts';
import { makeCertificate } from '../../test/support/certificate.ts';
import type { Servers } from '../measure.ts';
import { connectionOf, DATABASE, startFilledServer } from '../place.ts';

const REGION = 'us-east-1';
const run = promisify(execFile);

/** The S3 server that everybody stores into, by TLS: Ceph's gateway, with all objects in memory. */
export interface PeerStore extends AsyncDisposable {
  readonly pids: readonly number[];
  /** What tells each program of the store, and to trust it. */
  readonly env: Readonly<Record<string, string>>;
  createBucket(name: string): Promise<void>;
  bytesIn(bucket: string): Promise<number>;
  /** With all objects, whose memory is free afterwards. */
  removeBucket(name: string): Promise<void>;
}

/** One size's database on a server of its own. */
export interface PeerPlace extends Servers, AsyncDisposable {
  readonly databaseBytes: number;
  /** Length of the database as SQL. */
  readonly sqlBytes: number;
  /** Where contenders may put files; each has a folder of its name in there. */
  readonly folder: string;
  /** Connection, database and data directory, as the scripts of contenders name them. */
  readonly env: Readonly<Record<string, string>>;
  /** Rows of all tables together. */
  countRows(database: string): Promise<number>;
  dropDatabase(name: string): Promise<void>;
}

export async function startPeerStore(): Promise<PeerStore> {
  await using made = new AsyncDisposableStack();
  const certificate = await makeCertificate();
  const folder = await mkdtemp(path.join(tmpdir(), 'pgark-bench-store-'));
  made.defer(() => rm(folder, { recursive: true, force: true }));
  const caFile = path.join(folder, 'ca.pem');
  await writeFile(caFile, certificate.cert);
  const ceph = await startCeph({ certificate });
  made.defer(() => ceph.stop());
  const { endpoint, accessKey, secretKey, cephConf } = ceph;
  const env = {
    S3_ENDPOINT: endpoint,
    S3_REGION: REGION,
    S3_ACCESS_KEY_ID: accessKey,
    S3_SECRET_ACCESS_KEY: secretKey,
    NODE_EXTRA_CA_CERTS: caFile,
    AWS_ACCESS_KEY_ID: accessKey,
    AWS_SECRET_ACCESS_KEY: secretKey,
    AWS_DEFAULT_REGION: REGION,
    // Not AWS_CA_BUNDLE, at which rclone stumbles.
    CA_FILE: caFile,
    RCLONE_CONFIG: path.join(folder, 'rclone.conf'),
    RCLONE_CA_CERT: caFile,
    RCLONE_S3_NO_CHECK_BUCKET: 'true',
    RCLONE_CONFIG_STORE_TYPE: 's3',
    RCLONE_CONFIG_STORE_PROVIDER: 'Ceph',
    RCLONE_CONFIG_STORE_ENDPOINT: endpoint,
    RCLONE_CONFIG_STORE_REGION: REGION,
    RCLONE_CONFIG_STORE_ACCESS_KEY_ID: accessKey,
    RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY: secretKey,
    PGBACKREST_REPO1_TYPE: 's3',
    PGBACKREST_REPO1_S3_ENDPOINT: 'localhost',
    PGBACKREST_REPO1_STORAGE_PORT: new URL(endpoint).port,
    PGBACKREST_REPO1_STORAGE_CA_FILE: caFile,
    PGBACKREST_REPO1_S3_URI_STYLE: 'path',
    PGBACKREST_REPO1_S3_REGION: REGION,
    PGBACKREST_REPO1_S3_KEY: accessKey,
    PGBACKREST_REPO1_S3_KEY_SECRET: secretKey,
  };
  await writeFile(env.RCLONE_CONFIG, '');
  // Nothing of this process' own environment but the PATH, which may name other stores and certificates.
  const clean = { ...env, PATH: process.env['PATH'] ?? '' };
  const rclone = async (...args: string[]): Promise<string> => (await run('rclone', args, { env: clean })).stdout;
  const pids = await ceph.pids();
  const everything = made.move();
  return {
    pids,
    env,
    async createBucket(name) {
      // Rclone would take it on trust that it is there.
      await rclone('mkdir', '--s3-no-check-bucket=false', `store:${name}`);
    },
    async bytesIn(bucket) {
      const { bytes } = JSON.parse(await rclone('size', '--json', `store:${bucket}`)) as { bytes: number };
      return bytes;
    },
    async removeBucket(name) {
      await run('radosgw-admin', [
        '-c',
        cephConf,
        'bucket',
        'rm',
        `--bucket=${name}`,
        '--purge-objects',
        '--bypass-gc',
      ]);
      await run('radosgw-admin', ['-c', cephConf, 'gc', 'process', '--include-all']);
    },
    [Symbol.asyncDispose]: () => everything.disposeAsync(),
  };
}

export interface PeerPlaceOptions {
  readonly store: PeerStore;
  /** About the length of the database as SQL. */
  readonly sqlBytes: number;
  readonly binDir: string | undefined;
}

export async function makePeerPlace({ store, sqlBytes, binDir }: PeerPlaceOptions): Promise<PeerPlace> {
  await using made = new AsyncDisposableStack();
  const folder = await mkdtemp(path.join(tmpdir(), 'pgark-bench-'));
  made.defer(() => rm(folder, { recursive: true, force: true }));
  // The server's account has to get through to the archive.
  await chmod(folder, 0o711);
  const archive = path.join(folder, 'archive');
  const filled = made.use(
    await startFilledServer({
      dumpBytes: sqlBytes,
      binDir,
      serverSettings: {
        wal_level: 'replica',
        max_wal_senders: '10',
        max_wal_size: '8GB',
        // Barman wants an archive. There is one only while Barman runs, so that nobody else is measured with it.
        archive_mode: 'on',
        archive_command: `test ! -d ${archive} || cp %p ${archive}/%f`,
      },
    }),
  );
  const { server, admin, tables } = filled;
  const connection = connectionOf(server, DATABASE);
  // This also reads the whole database once, so that no contender is the first.
  const { stdout: length } = await run('bash', ['-c', 'set -o pipefail; pg_dump | wc -c'], {
    env: { ...process.env, ...connection, PATH: `${server.binDir}:${process.env['PATH'] ?? ''}` },
  });
  await mkdir(path.join(folder, 'scratch'));
  const everything = made.move();
  return {
    server,
    serverPid: filled.pid,
    storePids: store.pids,
    databaseBytes: filled.databaseBytes,
    sqlBytes: Number(length),
    folder,
    env: {
      ...store.env,
      ...connection,
      DATABASE_URL: server.url(DATABASE).reveal(),
      PGARK_CLIENT_DIR: server.binDir,
      DATA: filled.dataDirectory,
      ARCHIVE: archive,
    },
    async countRows(database) {
      const client = new Client({ connectionString: server.url(database).reveal() });
      await client.connect();
      try {
        const counts = tables.map((table) => `(SELECT count(*) FROM ${table})`);
        const { rows: counted } = await client.query<{ n: string }>(`SELECT ${counts.join(' + ')} AS n`);
        return Number(counted[0]?.n);
      } finally {
        await client.end();
      }
    },
    async dropDatabase(name) {
      await admin.query(`DROP DATABASE IF EXISTS ${name}`);
      await admin.query('CHECKPOINT');
    },
    [Symbol.asyncDispose]: () => everything.disposeAsync(),
  };
}
