import { cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  CreateMultipartUploadCommand,
  DeleteBucketPolicyCommand,
  PutBucketPolicyCommand,
  PutObjectLockConfigurationCommand,
} from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { runPgark, type RunResult } from '../support/cli.ts';
import { createBucket, createS3User, type TestBucket } from '../support/s3.ts';
import { fileStorage } from '../support/storage.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

/** A configuration of a directory, `disk`, and a bucket, `s3`. */
async function twoStorages(
  bucket: TestBucket,
  env: Readonly<Record<string, string>> = bucket.env,
): Promise<TempDirectory & { readonly run: (...args: readonly string[]) => Promise<RunResult> }> {
  const folder = await makeTempDirectory();
  await mkdir(folder.join('disk'));
  await writeFile(
    folder.join('pgark.yaml'),
    `version: 1
storages:
  disk: { type: file, path: disk }
  s3:
    type: s3
    endpoint: "\${S3_ENDPOINT}"
    region: "\${S3_REGION}"
    bucket: "\${S3_BUCKET}"
    prefix: prod
    access_key_id: "\${S3_ACCESS_KEY_ID}"
    secret_access_key: "\${S3_SECRET_ACCESS_KEY}"
databases:
  shop: { url: "postgres://app@127.0.0.1:1/shop", jobs: { nightly: { format: plain, to: [disk] } } }
`,
  );
  const run = (...args: readonly string[]) => runPgark(['--config', 'pgark.yaml', ...args], { cwd: folder.path, env });
  return { ...folder, run };
}

describe('storage probe', () => {
  test('shows what a directory can do, as a table and as JSON', async () => {
    await using storage = await fileStorage();
    const table = await runPgark(['storage', 'probe'], { env: storage.env });
    expect(table).toMatchObject({ exitCode: 0, stderr: '' });
    expect(table.stdout).toMatch(/^TRAIT +FOUND$/m);
    for (const trait of ['list', 'read', 'write', 'abort uploads', 'delete', 'conditional writes'])
      expect(table.stdout).toMatch(new RegExp(`^${trait} +yes`, 'm'));
    expect(table.stdout).toMatch(/^checksums +fsync$/m);
    expect(table.stdout).not.toMatch(/^[!✖]/m);
    expect(await storage.keys()).toEqual([]);

    const json = await runPgark(['storage', 'probe', '--output', 'json'], { env: storage.env });
    expect(JSON.parse(json.stdout)).toMatchObject({
      schema_version: 1,
      storages: [
        {
          type: 'file',
          location: storage.location,
          state: 'ok',
          profile: { conditional_writes: true, part_count_max: null, object_lock: null },
        },
      ],
    });
  });

  test('shows each storage, or the one that is named, and leaves nothing behind', async () => {
    await using bucket = await createBucket();
    await using world = await twoStorages(bucket);
    const both = await world.run('storage', 'probe', '--output', 'ndjson');
    expect(both).toMatchObject({ exitCode: 0 });
    const lines = both.stdout
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    expect(lines).toMatchObject([
      { kind: 'storage', storage: 'disk' },
      {
        kind: 'storage',
        storage: 's3',
        location: `s3://${bucket.name}/prod`,
        profile: { part_count_max: 10_000, equal_parts: false, versioning: 'off', object_lock: 'off' },
      },
    ]);
    expect(await bucket.listKeys()).toEqual([]);
    expect(await bucket.listOpenUploads()).toEqual([]);

    const one = await world.run('storage', 'probe', 's3');
    expect(one.stdout).toMatch(/^parts of an upload +at most 10000$/m);
    expect(one.stdout).not.toContain('file://');
    expect(await world.run('storage', 'probe', 'elsewhere')).toMatchObject({ exitCode: 2 });
  });

  test('says what keeps objects from being lost, and what that costs', async () => {
    await using bucket = await createBucket({ objectLock: true });
    const table = await runPgark(['storage', 'probe'], { env: bucket.env });
    expect(table.stdout).toMatch(/^versions +on\nObject Lock +on$/m);
    expect(table.stdout).toMatch(/^! versions: what retention deletes stays/m);

    const DefaultRetention = { Mode: 'GOVERNANCE', Days: 1 } as const;
    await bucket.client.send(
      new PutObjectLockConfigurationCommand({
        Bucket: bucket.name,
        ObjectLockConfiguration: { ObjectLockEnabled: 'Enabled', Rule: { DefaultRetention } },
      }),
    );
    const json = await runPgark(['storage', 'probe', '--output', 'json'], { env: bucket.env });
    expect(JSON.parse(json.stdout)).toMatchObject({
      storages: [
        {
          state: 'note',
          profile: { versioning: 'on', object_lock: 'on', default_lock: { mode: 'governance', days: 1 } },
          traits: expect.arrayContaining([expect.objectContaining({ name: 'default lock', state: 'note' })]),
        },
      ],
    });
    expect(await bucket.listKeys()).toEqual([]);
  });

  test('fails where retention has to delete and may not', async () => {
    await using bucket = await createBucket();
    const statement = {
      Effect: 'Deny',
      Principal: '*',
      Action: 's3:DeleteObject',
      Resource: `arn:aws:s3:::${bucket.name}/*`,
    };
    await bucket.client.send(
      new PutBucketPolicyCommand({
        Bucket: bucket.name,
        Policy: JSON.stringify({ Version: '2012-10-17', Statement: [statement] }),
      }),
    );
    try {
      const note = await runPgark(['storage', 'probe'], { env: bucket.env });
      expect(note).toMatchObject({ exitCode: 0 });
      expect(note.stdout).toMatch(/^! delete: retention cannot be carried out .*s3:DeleteObject/m);

      const env = { ...bucket.env, DATABASE_URL: 'postgres://app@127.0.0.1:1/shop', BACKUP_RETENTION_DAYS: '7' };
      const failure = await runPgark(['storage', 'probe'], { env });
      expect(failure).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('grant s3:DeleteObject') });
      expect(failure.stdout).toMatch(/^delete +no$/m);
      expect(failure.stdout).toMatch(/^conditional writes +yes$/m);
    } finally {
      await bucket.client.send(new DeleteBucketPolicyCommand({ Bucket: bucket.name }));
    }
  });

  test('names the right that is missing, and what there is beside it', async () => {
    await using bucket = await createBucket();
    const login = await createS3User({ readOnlyBuckets: [bucket] });
    await using world = await twoStorages(bucket, {
      ...bucket.env,
      S3_ACCESS_KEY_ID: login.accessKey,
      S3_SECRET_ACCESS_KEY: login.secretKey,
    });
    const { exitCode, stdout } = await world.run('storage', 'probe', 's3');
    expect(exitCode).toBe(3);
    expect(stdout).toMatch(/^list +yes\nread +yes, nothing yet\nwrite +no$/m);
    expect(stdout).toMatch(/^✖ write: s3:PutObject .*\n {4}grant s3:PutObject on arn/m);
  });

  test('fails with 3 for a bucket that is not there, after all that it found of the others', async () => {
    await using bucket = await createBucket();
    await using world = await twoStorages(bucket, { ...bucket.env, S3_BUCKET: `${bucket.name}-not` });
    const { exitCode, stdout, stderr } = await world.run('storage', 'probe', '--output', 'json');
    expect(exitCode).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({
      storages: [
        { storage: 'disk', state: 'ok' },
        {
          storage: 's3',
          state: 'failed',
          profile: null,
          traits: [{ name: 'list', error: { code: 'store-bucket-missing' } }],
        },
      ],
    });
    expect(stderr).toContain('does not exist');
  });
});

describe('storage usage', () => {
  const golden = path.resolve(import.meta.dirname, '../golden/repositories/0.1.0/storage');

  /** Bytes and objects of files whose paths match. */
  async function sumOf(wanted: RegExp): Promise<{ readonly objects: number; readonly bytes: number }> {
    const entries = await readdir(golden, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
    const some = files.filter((file) => wanted.test(path.relative(golden, file)));
    const sizes = await Promise.all(some.map(async (file) => (await stat(file)).size));
    return { objects: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  test('adds up every object of a repository by what it is part of, in a directory and in a bucket', async () => {
    await using bucket = await createBucket();
    await using world = await twoStorages(bucket);
    await cp(golden, world.join('disk'), { recursive: true });
    const files = await readdir(golden, { recursive: true, withFileTypes: true });
    await Promise.all(
      files
        .filter((entry) => entry.isFile())
        .map(async (entry) => {
          const file = path.join(entry.parentPath, entry.name);
          await bucket.put(`prod/${path.relative(golden, file)}`, await readFile(file));
        }),
    );
    await writeFile(world.join('disk', 'notes.txt'), 'mine');
    await bucket.put('prod/notes.txt', 'mine');
    await bucket.put('elsewhere.txt', 'not below the prefix');
    const upload = { Bucket: bucket.name, Key: 'prod/large.bin' };
    await bucket.client.send(new CreateMultipartUploadCommand(upload));

    const { exitCode, stdout } = await world.run('storage', 'usage', '--output', 'json');
    expect(exitCode).toBe(0);
    const backups = { source: 'golden', database: 'postgres' };
    const rows = [
      { ...backups, kind: 'plain', ...(await sumOf(/^postgres_/)), backups: 3, oldest: '2026-11-27T10:06:29.000Z' },
      { ...backups, kind: 'directory', ...(await sumOf(/^golden\/archive/)), backups: 2 },
      { ...backups, kind: 'physical', ...(await sumOf(/^golden\/base/)), backups: 1 },
      { source: 'golden', kind: 'wal', ...(await sumOf(/^golden\/wal/)) },
      { source: 'golden', kind: 'globals', ...(await sumOf(/^golden\/globals/)) },
      { kind: 'records', ...(await sumOf(/^\.pgark\//)) },
      { kind: 'foreign', objects: 1, bytes: 4 },
    ];
    const all = { rows, own: await sumOf(/./), foreign: { objects: 1, bytes: 4 }, backups: 6, damaged: [] };
    expect(JSON.parse(stdout)).toMatchObject({
      storages: [
        { storage: 'disk', unfinished_uploads: 0, ...all },
        { storage: 's3', unfinished_uploads: 1, ...all },
      ],
    });

    const table = await world.run('storage', 'usage', 's3');
    expect(table.stdout).toMatch(/^golden\/postgres +plain +3 +3 +.* 2026-11-27T10:06:29Z +2026-11-27/m);
    expect(table.stdout).toMatch(/^ +foreign +1 +4 B$/m);
    expect(table.stdout).toMatch(/^total +6 /m);
    expect(table.stdout).toMatch(/^unfinished uploads: 1, whose bytes/m);
  });

  test('tells of the others where one storage cannot be read', async () => {
    await using bucket = await createBucket();
    await using world = await twoStorages(bucket, { ...bucket.env, S3_BUCKET: `${bucket.name}-not` });
    const some = await world.run('storage', 'usage', '--output', 'ndjson');
    expect(some).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(/^storage s3: error .*\n {2}hint /m) });
    expect(some.stderr).toMatch(/^error {2}1 of 2 storages failed: s3$/m);
    expect(
      some.stdout
        .trimEnd()
        .split('\n')
        .map((line): unknown => JSON.parse(line)),
    ).toMatchObject([
      { kind: 'summary', storage: 'disk', backups: 0 },
      { kind: 'failure', storage: 's3', error: { code: 'store-bucket-missing' } },
    ]);
    expect(await world.run('storage', 'usage', 's3')).toMatchObject({ exitCode: 3 });
  });
});
