import { randomBytes } from 'node:crypto';
import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { createCephUser } from './ceph.ts';
import { type S3Login, s3Facts } from './facts.ts';
import { expectNoSecretsIn } from './secrets.ts';

/** A bucket of the test's own; `await using` empties and deletes it. */
export interface TestBucket extends AsyncDisposable {
  readonly name: string;
  readonly client: S3Client;
  /** S3_ENDPOINT, S3_REGION, S3_BUCKET, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY: pgark's own settings. */
  readonly env: Readonly<Record<string, string>>;
  /** As a configuration file names it, by its endpoint or another one, such as that of a proxy. */
  inFile(endpoint?: string): Readonly<Record<string, string>>;
  /** All keys, all pages, in the server's order. */
  listKeys(prefix?: string): Promise<string[]>;
  /** The keys of multipart uploads that were neither completed nor aborted. */
  listOpenUploads(prefix?: string): Promise<string[]>;
  put(key: string, body: string | Uint8Array): Promise<void>;
  get(key: string): Promise<Buffer>;
  remove(): Promise<void>;
}

const EMPTIED_MAX = 5;

/** A client as S3 servers other than AWS need it; the test destroys it. */
export function createS3Client(login: S3Login = s3Facts()): S3Client {
  const { endpoint, region } = s3Facts();
  return new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId: login.accessKey, secretAccessKey: login.secretKey },
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

/** With `objectLock`, one that keeps versions and locks them: what a test locks has to be in governance mode. */
export async function createBucket({ objectLock = false }: { objectLock?: boolean } = {}): Promise<TestBucket> {
  const { endpoint, region, accessKey, secretKey } = s3Facts();
  const client = createS3Client();
  const name = `pgark-test-${randomBytes(6).toString('hex')}`;
  await client.send(new CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket: objectLock }));

  const listKeys = async (prefix = '') => {
    const keys: string[] = [];
    let token: string | undefined;
    do {
      const page = await client.send(
        new ListObjectsV2Command({ Bucket: name, Prefix: prefix, ContinuationToken: token }),
      );
      keys.push(...(page.Contents ?? []).flatMap((object) => object.Key ?? []));
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return keys;
  };
  const openUploads = async (prefix = '') => {
    const page = await client.send(new ListMultipartUploadsCommand({ Bucket: name, Prefix: prefix }));
    if (page.IsTruncated) throw new Error('more than a page of open uploads');
    return (page.Uploads ?? []).map((upload) => ({ Key: upload.Key ?? '', UploadId: upload.UploadId ?? '' }));
  };
  const get = async (key: string) => {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: name, Key: key }));
    if (Body === undefined) throw new Error(`no body for ${key}`);
    return Buffer.from(await Body.transformToByteArray());
  };
  const empty = async () => {
    for (const upload of await openUploads()) {
      await client.send(new AbortMultipartUploadCommand({ Bucket: name, ...upload }));
    }
    if (objectLock) await removeVersions(client, name);
    const keys = await listKeys();
    const width = 16;
    for (let start = 0; start < keys.length; start += width) {
      const some = keys.slice(start, start + width);
      await Promise.all(some.map((key) => client.send(new DeleteObjectCommand({ Bucket: name, Key: key }))));
    }
  };
  const remove = async () => {
    await expectNoSecretsIn({ keys: () => listKeys(), get });
    // A request that was given up, or whose process was killed, may be carried out behind the list.
    for (let left = EMPTIED_MAX; ; left -= 1) {
      await empty();
      try {
        await client.send(new DeleteBucketCommand({ Bucket: name }));
        break;
      } catch (error) {
        if (left === 1 || !(error instanceof S3ServiceException) || error.name !== 'BucketNotEmpty') throw error;
      }
    }
    client.destroy();
  };
  return {
    name,
    client,
    env: {
      S3_ENDPOINT: endpoint,
      S3_REGION: region,
      S3_BUCKET: name,
      S3_ACCESS_KEY_ID: accessKey,
      S3_SECRET_ACCESS_KEY: secretKey,
    },
    inFile: (reached = endpoint) => ({
      type: 's3',
      endpoint: reached,
      region,
      bucket: name,
      access_key_id: accessKey,
      secret_access_key: secretKey,
    }),
    listKeys,
    listOpenUploads: async (prefix) => (await openUploads(prefix)).map((upload) => upload.Key),
    async put(key, body) {
      await client.send(new PutObjectCommand({ Bucket: name, Key: key, Body: body }));
    },
    get,
    remove,
    [Symbol.asyncDispose]: remove,
  };
}

/** Locked ones too. */
async function removeVersions(client: S3Client, bucket: string): Promise<void> {
  for (;;) {
    const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
    const all = [...Versions, ...DeleteMarkers];
    if (all.length === 0) return;
    await Promise.all(
      all.map(({ Key, VersionId }) =>
        client.send(new DeleteObjectCommand({ Bucket: bucket, Key, VersionId, BypassGovernanceRetention: true })),
      ),
    );
  }
}

/**
 * A second user, who may list and read the buckets named and nothing else: no other bucket, no write, no bucket of its
 * own. On a server of the user's own it is the one that S3_TEST_READ_ONLY_* or S3_TEST_NO_RIGHTS_* names.
 */
export async function createS3User(rights: { readonly readOnlyBuckets: readonly TestBucket[] }): Promise<S3Login> {
  const { cephConf, readOnly, noRights } = s3Facts();
  const mayRead = rights.readOnlyBuckets.length > 0;
  if (cephConf === undefined) {
    const given = mayRead ? readOnly : noRights;
    if (given !== undefined) return given;
    const names = mayRead ? 'S3_TEST_READ_ONLY' : 'S3_TEST_NO_RIGHTS';
    throw new Error(`this test needs a second user: set ${names}_ACCESS_KEY and ${names}_SECRET_KEY`);
  }
  const uid = `reader${randomBytes(6).toString('hex')}`;
  const user = { uid, accessKey: uid, secretKey: randomBytes(20).toString('hex') };
  await createCephUser(cephConf, user, { buckets: false });
  for (const bucket of rights.readOnlyBuckets) {
    const resource = `arn:aws:s3:::${bucket.name}`;
    const policy = {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Allow',
          Principal: { AWS: [`arn:aws:iam:::user/${uid}`] },
          Action: ['s3:ListBucket', 's3:GetObject', 's3:GetBucketLocation', 's3:ListBucketMultipartUploads'],
          Resource: [resource, `${resource}/*`],
        },
      ],
    };
    await bucket.client.send(new PutBucketPolicyCommand({ Bucket: bucket.name, Policy: JSON.stringify(policy) }));
  }
  return { accessKey: user.accessKey, secretKey: user.secretKey };
}
