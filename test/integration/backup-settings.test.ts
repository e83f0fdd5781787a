import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import {
  expectExit,
  expectFailure,
  expectRestores,
  filler,
  pgarkJson,
  s3Storage,
  startPgark,
  succeed,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { createDatabase, createRole } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

describe.concurrent('settings that are wrong', () => {
  test('an unknown key in the file is an error that says where it stands and what was meant', async () => {
    await using directory = await makeTempDirectory();
    const file = directory.join('pgark.yaml');
    await writeFile(
      file,
      `version: 1
storages:
  local: { type: file, path: ${directory.join('backups')} }
databases:
  shop:
    url: postgres://app:the-password@db/shop
    jobs:
      nightly: { format: plain, schedule: "@daily", to: [local], retenton: week }
`,
    );
    const result = await runPgark(['backup', '--config', file], {});
    expectFailure(result, { exit: 1, message: /pgark\.yaml:8:\d+: .*retenton.*did you mean "retention"\?/, hint: /./ });
    expect(result.stderr).not.toContain('the-password');
  });

  test('everything that is missing is named at once', async () => {
    const result = await runPgark(['backup'], {
      env: { S3_BUCKET: 'bucket', S3_ACCESS_KEY_ID: 'key', BACKUP_ENCRYPTION: 'age' },
    });
    expectFailure(result, {
      exit: 1,
      message:
        /^3 required settings are missing:\n {2}S3_SECRET_ACCESS_KEY: .*\n {2}DATABASE_URL: .*\n {2}BACKUP_ENCRYPTION_KEY: /,
      hint: /set DATABASE_URL; or .*pgark key generate/,
    });
  });

  test('two groups that contradict each other are named both, without their passwords', async () => {
    const result = await runPgark(['backup'], {
      env: {
        DATABASE_URL: 'postgres://app:first-password@one/shop',
        POSTGRES_HOST: 'two',
        POSTGRES_PASSWORD: 'second-password',
        S3_BUCKET: 'bucket-one',
        BUCKET_NAME: 'bucket-two',
      },
    });
    expectFailure(result, {
      exit: 1,
      message: /POSTGRES_HOST: names another host than DATABASE_URL \("two" against "one"\)/,
      hint: /keep one of the two groups/,
    });
    expect(result.stderr).toMatch(/BUCKET_NAME: .*S3_BUCKET/);
    expect(result.stderr).not.toMatch(/first-password|second-password/);
  });
});

/** Secrets of its own, so that nothing else on this machine shows the same text. */
async function secretScene() {
  const stack = new AsyncDisposableStack();
  const role = stack.use(await createRole('BYPASSRLS IN ROLE pg_read_all_data'));
  const database = stack.use(await createDatabase({ sql: filler(12) }));
  const storage = stack.use(await s3Storage());
  const passphrase = `passphrase ${randomBytes(24).toString('hex')}`;
  await database.query(`GRANT CREATE ON DATABASE ${escapeIdentifier(database.name)} TO ${escapeIdentifier(role.user)}`);
  const secrets = [role.password, passphrase, storage.env['S3_SECRET_ACCESS_KEY'] ?? ''];
  return { role, database, storage, passphrase, secrets, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** The arguments of a process and of all below it. */
function argumentsBelow(pid: number): string[] {
  const rows = execFileSync('ps', ['-eo', 'pid=,ppid=,args=', '-ww'], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, own, parent, args = '']) => ({ own: Number(own), parent: Number(parent), args }));
  const family = new Set([pid]);
  for (let size = 0; size !== family.size; ) {
    size = family.size;
    for (const row of rows) if (family.has(row.parent)) family.add(row.own);
  }
  return rows.filter((row) => family.has(row.own)).map((row) => row.args);
}

describe.concurrent('secrets', () => {
  test.each([
    ['with encryption', true],
    ['without encryption', false],
  ])('appear in no output, no arguments and no byte of the bucket, %s', async (_name, isEncrypted) => {
    await using scene = await secretScene();
    await using proxy = await startTcpProxy(postgresFacts());
    const { role, database, storage, passphrase, secrets } = scene;
    const env = {
      ...storage.env,
      DATABASE_URL: urlOf(database.name, { ...role, port: proxy.port }),
      BACKUP_COMPRESSION: 'none',
      ...(isEncrypted ? { BACKUP_ENCRYPTION: 'openssl', BACKUP_ENCRYPTION_KEY: passphrase } : {}),
    };
    const held = proxy.holdAfter(9 * MIB);
    const run = startPgark(['backup', '-v'], { env });
    await held;
    const seen = argumentsBelow(await run.pid);
    expect(seen.some((args) => args.includes('pg_dump'))).toBe(true);
    proxy.release();
    const outputs = [await run.result];
    for (const args of [
      ['list', '-o', 'json'],
      ['show', 'latest', '-o', 'json'],
      ['doctor', '-v'],
      ['config', 'show'],
    ]) {
      outputs.push(await runPgark(args, { env }));
    }
    for (const result of outputs) expectExit(result, 0);
    // Failures say more than successes do.
    outputs.push(await runPgark(['backup', '-v'], { env: { ...env, S3_BUCKET: 'pgark-no-such-bucket' } }));
    outputs.push(await runPgark(['backup', '-v'], { env: { ...env, DATABASE_URL: urlOf('no such database', role) } }));
    const objects = await Promise.all((await storage.keys()).map((key) => storage.get(key)));
    expect(objects.length).toBeGreaterThan(4);
    for (const secret of secrets) {
      expect(seen.filter((args) => args.includes(secret))).toEqual([]);
      for (const { stdout, stderr } of outputs) expect(stdout + stderr).not.toContain(secret);
      expect(objects.filter((bytes) => bytes.includes(secret)).length).toBe(0);
    }
  });

  test('are read from files: the whole cycle', async () => {
    await using directory = await makeTempDirectory();
    await using scene = await secretScene();
    const { database, storage } = scene;
    const { accessKey, secretKey, endpoint } = s3Facts();
    const { identity } = await pgarkJson<{ identity: string }>(['key', 'generate'], {});
    const files = {
      DATABASE_URL: database.url,
      S3_ACCESS_KEY_ID: accessKey,
      S3_SECRET_ACCESS_KEY: secretKey,
      BACKUP_ENCRYPTION_KEY: identity,
    };
    const env: Record<string, string> = {
      S3_ENDPOINT: endpoint,
      S3_BUCKET: storage.bucket.name,
      BACKUP_PREFIX: '/',
      RETRY_DELAY: '10ms',
    };
    for (const [name, value] of Object.entries(files)) {
      env[`${name}_FILE`] = directory.join(name);
      await writeFile(directory.join(name), `${value}\n`, { mode: 0o600 });
    }
    await succeed(['backup'], env);
    expect(await storage.keys()).toContainEqual(expect.stringMatching(/\.sql\.gz\.age$/));
    await succeed(['verify'], env);
    await expectRestores(database, { ...storage, env }, { env: { DATABASE_URL: '' } });
    const missing = await runPgark(['backup'], { env: { ...env, DATABASE_URL_FILE: directory.join('gone') } });
    expectFailure(missing, { exit: 1, message: /DATABASE_URL_FILE: .*gone/, hint: /./ });
  });
});
