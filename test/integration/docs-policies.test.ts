import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectExit, expectFailure } from '../support/backups.ts';
import { createCephUser } from '../support/ceph.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { s3Facts } from '../support/facts.ts';
import { blockOf, type MarkdownPage, readPage } from '../support/markdown.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { makeTempDirectory } from '../support/temp.ts';

// The policies come out of docs/security.md as they stand there. A gateway of the tests' own has users without any right, to
// whom the bucket gives what the policy says; with a server that S3_TEST_ENDPOINT names that cannot be set up.

interface Statement {
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
}

const { cephConf } = s3Facts();
let page: MarkdownPage;
let database: TestDatabase;

beforeAll(async () => {
  page = await readPage('docs/security.md');
  database = await createDatabase({ name: 'shop', sql: 'CREATE TABLE orders AS SELECT generate_series(1, 100) AS id' });
});
afterAll(() => database[Symbol.asyncDispose]());

/** A bucket, and a key that may do in it what a policy of the page says. */
class Place implements AsyncDisposable {
  readonly bucket: TestBucket;
  readonly #key = `key${randomBytes(6).toString('hex')}`;
  readonly #secret = randomBytes(20).toString('hex');

  private constructor(bucket: TestBucket) {
    this.bucket = bucket;
  }

  static async make(): Promise<Place> {
    const place = new Place(await createBucket());
    const user = { uid: place.#key, accessKey: place.#key, secretKey: place.#secret };
    await createCephUser(cephConf ?? '', user, { buckets: false });
    return place;
  }

  /** `without` one of its actions. */
  async allow(name: string, without?: string): Promise<void> {
    const text = blockOf(page, name).replaceAll('my-backups', this.bucket.name);
    const policy = JSON.parse(text) as { readonly Version: string; readonly Statement: readonly Statement[] };
    const Statement = policy.Statement.flatMap((statement) => {
      const Action = actionsOf(statement).filter((action) => action !== without);
      const Principal = { AWS: [`arn:aws:iam:::user/${this.#key}`] };
      return Action.length === 0 ? [] : [{ ...statement, Action, Principal }];
    });
    const Policy = JSON.stringify({ ...policy, Statement });
    await this.bucket.client.send(new PutBucketPolicyCommand({ Bucket: this.bucket.name, Policy }));
  }

  /** By the key, or by the bucket's owner. */
  async pgark(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    asOwner = false,
  ): Promise<RunResult> {
    const key = asOwner ? {} : { S3_ACCESS_KEY_ID: this.#key, S3_SECRET_ACCESS_KEY: this.#secret };
    const all = { ...this.bucket.env, ...key, BACKUP_NAME: 'shop', DATABASE_URL: database.url, RETRY_DELAY: '10ms' };
    return runPgark(args, { env: { ...all, ...env } });
  }

  /** All backups but the newest. */
  async prune(): Promise<RunResult> {
    await using folder = await makeTempDirectory();
    const { S3_ENDPOINT, S3_REGION } = this.bucket.env;
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages:
  store:
    { type: s3, bucket: ${this.bucket.name}, prefix: postgres-backups, endpoint: "${S3_ENDPOINT}", region: ${S3_REGION},
      access_key_id: ${this.#key}, secret_access_key: ${this.#secret} }
retention: { newest: { keep: { last: 1 }, min_backups: 1 } }
databases:
  shop:
    url: ${JSON.stringify(database.url)}
    jobs: { dump: { retention: newest }, archive: { format: directory, retention: newest } }
`,
    );
    return await runPgark(['prune', '--force', '--config', 'pgark.yaml'], { cwd: folder.path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bucket.remove();
  }
}

function actionsOf({ Action }: Statement): readonly string[] {
  return typeof Action === 'string' ? [Action] : Action;
}

function actionsIn(name: string): readonly string[] {
  const { Statement } = JSON.parse(blockOf(page, name)) as { readonly Statement: readonly Statement[] };
  return [...new Set(Statement.flatMap(actionsOf))];
}

const FOREVER = { BACKUP_RETENTION_DAYS: 'forever' };

describe.runIf(cephConf !== undefined)('the key for backups', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make();
    // Who has written an object may read it at this gateway, whatever a policy says: so somebody else was here before.
    expectExit(await place.pgark(['backup'], FOREVER, true), 0);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  test.each([
    ['s3:ListBucket', /s3:ListBucket on bucket/],
    ['s3:PutObject', /s3:PutObject on postgres-backups\/\.pgark\/probe-/],
    ['s3:GetObject', /s3:GetObject on postgres-backups\/\.pgark\/repository\.json/],
    ['s3:AbortMultipartUpload', /s3:AbortMultipartUpload on postgres-backups\//],
  ])('does not suffice without %s', async (action, message) => {
    await place.allow('backup-policy', action);
    const hint = new RegExp(`grant ${action} on arn:aws:s3:::`);
    const backup = await place.pgark(['backup'], FOREVER);
    expectExit(backup, 3);
    expect(backup.stderr).toMatch(message);
    expect(backup.stderr).toMatch(hint);
    const doctor = await place.pgark(['doctor'], FOREVER);
    expectExit(doctor, 3);
    expect(doctor.stdout).toMatch(hint);
  });

  test.each(['s3:DeleteObject', 's3:ListBucketMultipartUploads', 's3:ListMultipartUploadParts'])(
    'works without %s, which is for what broken runs leave',
    async (action) => {
      await place.allow('backup-policy', action);
      expectExit(await place.pgark(['backup'], FOREVER), 0);
    },
  );

  test('suffices for backups of each format, and leaves nothing half-done', async () => {
    await place.allow('backup-policy');
    const all = [
      ['doctor'],
      ['backup'],
      ['backup', '--format', 'directory'],
      ['backup', '--format', 'directory'],
      ['list'],
      ['verify', '--deep'],
    ];
    const left = async (): Promise<unknown> => [
      await place.bucket.listKeys('postgres-backups/.pgark/probe-'),
      await place.bucket.listOpenUploads(),
    ];
    const before = await left();
    for (const args of all) {
      const result = await place.pgark(args, { ...FOREVER, BACKUP_GLOBALS: 'auto' });
      expectExit(result, 0);
      expect(result.stderr).not.toMatch(/ (WARNING|ERROR) /);
    }
    // The intent that could not be deleted in a test before is gone, too: the next run tidies up.
    expect(await place.bucket.listKeys('postgres-backups/.pgark/intents/')).toEqual([]);
    // Probes that were forbidden something are tidied up after an hour, and no new ones are left.
    expect(await left()).toEqual(before);
  });

  test('deletes no backup', async () => {
    await place.allow('backup-policy');
    const before = await place.bucket.listKeys('postgres-backups/.pgark/backups/');
    expectFailure(await place.prune(), { exit: 3, message: /s3:DeleteObject/, hint: /grant s3:DeleteObject on / });
    expect(await place.bucket.listKeys('postgres-backups/.pgark/backups/')).toEqual(before);
    expect(before.length).toBeGreaterThan(3);
  });

  test('has no other right', () => {
    expect(actionsIn('backup-policy').toSorted()).toEqual([
      's3:AbortMultipartUpload',
      's3:DeleteObject',
      's3:GetObject',
      's3:ListBucket',
      's3:ListBucketMultipartUploads',
      's3:ListMultipartUploadParts',
      's3:PutObject',
    ]);
  });
});

describe.runIf(cephConf !== undefined)('the key for retention', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make();
    for (let n = 1; n <= 2; n += 1) expectExit(await place.pgark(['backup'], FOREVER, true), 0);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  test.each(['s3:ListBucket', 's3:GetObject', 's3:PutObject', 's3:DeleteObject'])(
    'does not suffice without %s',
    async (action) => {
      await place.allow('retention-policy', action);
      expectFailure(await place.prune(), {
        exit: 3,
        message: new RegExp(action),
        hint: new RegExp(`grant ${action} on `),
      });
    },
  );

  test('suffices to delete what retention lets go', async () => {
    await place.allow('retention-policy');
    const result = await place.prune();
    expectExit(result, 0);
    expect(result.stderr).not.toMatch(/ (WARNING|ERROR) /);
    expect(await place.bucket.listKeys('postgres-backups/.pgark/backups/')).toHaveLength(1);
    expect(await place.bucket.listKeys('postgres-backups/.pgark/deleted/')).toEqual([]);
  });
});

describe.runIf(cephConf !== undefined)('the key for restores', () => {
  let place: Place;
  beforeAll(async () => {
    place = await Place.make();
    expectExit(await place.pgark(['backup'], {}, true), 0);
  });
  afterAll(() => place[Symbol.asyncDispose]());

  test.each(['s3:ListBucket', 's3:GetObject'])('does not suffice without %s', async (action) => {
    await place.allow('restore-policy', action);
    expectFailure(await place.pgark(['restore', 'latest', '--to-db', 'x']), {
      exit: 3,
      message: new RegExp(action),
      hint: new RegExp(`grant ${action} on `),
    });
  });

  test('suffices to list, read and restore, and not to write', async () => {
    await place.allow('restore-policy');
    const before = await place.bucket.listKeys();
    for (const [args, warnings] of [
      [['list'], []],
      [['show', 'latest'], []],
      [['verify'], [expect.stringContaining('is not recorded with it')]],
      [['drill'], [expect.stringContaining('is not recorded with it')]],
    ] as const) {
      const result = await place.pgark(args);
      expectExit(result, 0);
      expect(result.stderr.split('\n').filter((line) => / (WARNING|ERROR) /.test(line))).toEqual(warnings);
    }
    expect(await place.bucket.listKeys()).toEqual(before);
    expectFailure(await place.pgark(['backup']), { exit: 3, message: /s3:PutObject/, hint: /grant s3:PutObject on / });
  });
});
