import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { expectUntouched, filler, s3Storage, urlOf } from '../support/backups.ts';
import { docker, imageUnderTest } from '../support/docker.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';
import { createBucket } from '../support/s3.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

/** As docs/docker.md says how to run it safely; the network is the host's, where the servers of the tests are. */
const SAFELY = [
  '--network=host',
  '--read-only',
  '--tmpfs=/tmp',
  '--cap-drop=ALL',
  '--security-opt=no-new-privileges',
] as const;

const variables = (env: Readonly<Record<string, string>>): string[] => Object.keys(env).map((name) => `--env=${name}`);

/** One command in a container of its own, which is gone afterwards. */
async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const result = await docker(['run', '--rm', ...SAFELY, ...variables(env), imageUnderTest(), ...args], { env });
  expect({ args, ...result }).toMatchObject({ exitCode: 0 });
  return result.stdout;
}

/** A container in the background. Its exit status comes when it has stopped. */
async function start(args: readonly string[], env: Readonly<Record<string, string>>) {
  const name = `pgark-test-${randomBytes(6).toString('hex')}`;
  const options = ['--detach', `--name=${name}`, ...SAFELY, ...variables(env)];
  const started = await docker(['run', ...options, imageUnderTest(), ...args], { env });
  expect(started).toMatchObject({ exitCode: 0 });
  return {
    async stop(): Promise<number> {
      await docker(['stop', '--time', '60', name]);
      return Number((await docker(['wait', name])).stdout);
    },
    async logs(): Promise<string> {
      const { stdout, stderr } = await docker(['logs', name]);
      return stdout + stderr;
    },
    async [Symbol.asyncDispose]() {
      await docker(['rm', '--force', '--volumes', name]);
    },
  };
}

/** Looks again and again until there is something; the test's own limit ends it. */
async function eventually<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

describe('the image, read-only and without any capability', () => {
  test('answers for itself and for the programs in it', async () => {
    expect(await run(['backup', '--version'])).toMatch(/^\d+\.\d+\.\d+/);
    expect(await run(['pg_dump', '--version'])).toMatch(/^pg_dump \(PostgreSQL\) \d+/);
    expect(await run(['rclone', 'version'])).toMatch(/^rclone v/);
    expect(await run(['id', '-u'])).toBe('1000\n');
  });

  test.each(['runtime', 'drill'] as const)(
    '%s: has nothing that its user may write but /tmp and /data',
    async (target) => {
      const find = 'find / -xdev -writable ! -type l ! -path "/proc/*" ! -path "/dev/*" ! -path "/sys/*" 2>/dev/null';
      const args = ['run', '--rm', '--cap-drop=ALL', imageUnderTest(target), 'sh', '-c', find];
      const { stdout } = await docker(args);
      const places = stdout.trim().split('\n');
      expect(places.filter((place) => !/^\/(tmp|data)(\/|$)/.test(place))).toEqual([]);
      expect(places).toContain('/data');
    },
  );

  test.each(['runtime', 'drill'] as const)('%s: holds no private key', async (target) => {
    const find = 'find / -xdev -type f ( -path "*/ssl/private/*" -o -name "*snakeoil*" -o -name "id_*sa" )';
    const args = [
      'run',
      '--rm',
      '--user=0',
      imageUnderTest(target),
      'sh',
      '-c',
      find.replaceAll(/[()]/g, String.raw`\$&`),
    ];
    expect(await docker(args)).toMatchObject({ exitCode: 0, stdout: '' });
  });

  test('backs up, shows the object, and restores what was dropped', async () => {
    await using database = await createDatabase();
    await using bucket = await createBucket();
    const env = { DATABASE_URL: database.url, ...bucket.env };
    await database.query('CREATE TABLE t AS SELECT generate_series(1, 1000) AS n');
    await run(['doctor'], env);
    await run(['backup'], env);
    expect(await bucket.listKeys()).toContainEqual(expect.stringMatching(/\.sql\.gz$/));
    expect(await run(['list'], env)).toContain(database.name);
    await database.query('DROP TABLE t');
    await run(['restore', 'latest', '--drop-old'], env);
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 1000 }]);
  });

  test('reads secrets from files, and takes its key from one', async () => {
    await using database = await createDatabase();
    await using bucket = await createBucket();
    const { S3_SECRET_ACCESS_KEY = '', ...plain } = bucket.env;
    const script = 'printf %s "$URL" > /tmp/url; printf %s "$KEY" > /tmp/key; unset URL KEY; exec backup';
    const env = {
      ...plain,
      URL: database.url,
      KEY: S3_SECRET_ACCESS_KEY,
      DATABASE_URL_FILE: '/tmp/url',
      S3_SECRET_ACCESS_KEY_FILE: '/tmp/key',
      BACKUP_ENCRYPTION_KEY: randomBytes(18).toString('hex'),
    };
    await run(['sh', '-c', script], env);
    expect(await bucket.listKeys()).toContainEqual(expect.stringMatching(/\.sql\.gz\.\w+$/));
  });

  test('a backup that SIGTERM ends in the middle leaves nothing', { timeout: 240_000 }, async () => {
    await using database = await createDatabase();
    await database.query(filler(48));
    await using storage = await s3Storage();
    await using proxy = await startTcpProxy(postgresFacts(), { fromServerBytesPerSecond: 2 * MIB });
    const url = urlOf(database.name, { port: proxy.port });
    await using container = await start(['backup'], { DATABASE_URL: url, ...storage.env, BACKUP_COMPRESSION: 'none' });
    await eventually(async () => (await storage.openUploads()).find((key) => key.endsWith('.sql')));
    expect({ code: await container.stop(), logs: await container.logs() }).toMatchObject({ code: 130 });
    await expectUntouched(storage, []);
  });

  test('becomes a daemon by the crontab of a Compose file for other images, and ends with 0', {
    timeout: 240_000,
  }, async () => {
    await using database = await createDatabase();
    await using bucket = await createBucket();
    const command = 'echo "* * * * * /usr/local/bin/backup 2>&1 | logger -t backup" | crontab - && crond -f';
    const env = { DATABASE_URL: database.url, ...bucket.env, PGARK_LISTEN: '127.0.0.1:0' };
    await using container = await start(['sh', '-c', command], env);
    await eventually(async () => (await bucket.listKeys()).find((key) => key.endsWith('.sql.gz')));
    expect({ code: await container.stop(), logs: await container.logs() }).toMatchObject({ code: 0 });
  });
});
