import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { inspect, promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { type Clock, systemClock } from '../../src/common/clock.ts';
import { Secret } from '../../src/common/secret.ts';
import { digestOf, distinctBytes, readObject, streamOf } from '../../src/storage/contract/harness.contract.ts';
import { describeObjectStoreContract } from '../../src/storage/object-store.contract.ts';
import type { S3Credentials } from '../../src/storage/s3/options.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { type S3Login, s3Facts } from '../support/facts.ts';
import { createBucket, createS3User } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

/** Pages are full in a test below. */
const contract = { pageObjects: 100 };

describeObjectStoreContract(
  'S3Store',
  async () => {
    const bucket = await createBucket();
    return {
      store: openS3Store(bucket.name),
      reopen: () => Promise.resolve(openS3Store(bucket.name)),
      dispose: () => bucket.remove(),
    };
  },
  contract,
);

describeObjectStoreContract(
  'S3Store under a prefix',
  async () => {
    const bucket = await createBucket();
    const options = { prefix: '/some where/prod-Ü+%20/' };
    return {
      store: openS3Store(bucket.name, options),
      reopen: () => Promise.resolve(openS3Store(bucket.name, options)),
      dispose: () => bucket.remove(),
    };
  },
  contract,
);

const bytes = Buffer.from('some bytes');
const body = async function* (): AsyncGenerator<Uint8Array> {
  yield bytes;
};
const keysOf = ({ accessKey, secretKey }: S3Login): S3Credentials => ({
  kind: 'keys',
  accessKeyId: accessKey,
  secretAccessKey: new Secret(secretKey),
});
async function makeCertificate(directory: TempDirectory): Promise<{ key: string; cert: string }> {
  const [keyFile, certFile] = [directory.join('key.pem'), directory.join('cert.pem')];
  const subject = ['-subj', '/CN=pgark tests', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc'];
  await promisify(execFile)('openssl', ['req', '-x509', ...kind, '-keyout', keyFile, '-out', certFile, ...subject]);
  return { key: await readFile(keyFile, 'utf8'), cert: await readFile(certFile, 'utf8') };
}
const failureOf = async (action: () => Promise<unknown>): Promise<unknown> => {
  try {
    return await action();
  } catch (error) {
    return error;
  }
};

describe('S3Store', () => {
  test('sees nothing of what lies beside its prefix', async () => {
    await using bucket = await createBucket();
    await bucket.put('prod/a', 'a');
    await bucket.put('prod-eu/a', 'a');
    const store = openS3Store(bucket.name, { prefix: 'prod' });
    const listed: string[] = [];
    for await (const info of store.list('')) listed.push(info.key);
    expect(listed).toEqual(['a']);
    expect(store.location).toBe(`s3://${bucket.name}/prod`);
  });

  test('lists objects of three pages, complete and in order', { timeout: 300_000 }, async () => {
    await using bucket = await createBucket();
    const store = openS3Store(bucket.name, { prefix: 'prod' });
    const keys = Array.from({ length: 2_001 }, (_, index) => `shop/${String(index * 7).padStart(6, '0')}.json`);
    for (let start = 0; start < keys.length; start += 50) {
      await Promise.all(keys.slice(start, start + 50).map((key) => store.putSmall(key, bytes)));
    }
    const listed: string[] = [];
    for await (const info of store.list('shop/')) listed.push(info.key);
    expect(listed).toEqual(keys);
    const last: string[] = [];
    for await (const info of store.list('shop/', { startAfter: keys[1_900] ?? '' })) last.push(info.key);
    expect(last).toEqual(keys.slice(1_901));
  });

  test('names a bucket that does not exist, whatever is asked of it', async () => {
    const store = openS3Store('no-such-bucket-here');
    const missing = { code: 'store-bucket-missing', message: expect.stringContaining('no-such-bucket-here') };
    await expect(store.probe()).rejects.toMatchObject(missing);
    await expect(store.head('a')).rejects.toMatchObject(missing);
    await expect(store.get('a')).rejects.toMatchObject(missing);
    await expect(store.now()).rejects.toMatchObject(missing);
    await expect(store.putSmall('a', bytes)).rejects.toMatchObject(missing);
    await expect(store.putStream('a', body())).rejects.toMatchObject(missing);
    await expect(store.list('').next()).rejects.toMatchObject(missing);
  });

  test('says which half of the credentials is wrong, and never shows a secret or a signature', async () => {
    await using bucket = await createBucket();
    const { accessKey } = s3Facts();
    const wrong = openS3Store(bucket.name, { credentials: keysOf({ accessKey, secretKey: 'not-the-secret' }) });
    const unknown = openS3Store(bucket.name, {
      credentials: keysOf({ accessKey: 'nobody', secretKey: 'not-the-secret' }),
    });
    for (const action of [
      () => wrong.probe(),
      () => wrong.head('a'),
      () => wrong.get('a'),
      () => wrong.putSmall('a', bytes),
    ]) {
      const error = await failureOf(action);
      expect(error).toMatchObject({ code: 'store-credentials-rejected', hint: expect.stringContaining('secret key') });
      expect(inspect(error, { depth: 10 })).not.toMatch(/not-the-secret|Signature=|X-Amz-/iu);
    }
    await expect(unknown.probe()).rejects.toMatchObject({
      code: 'store-credentials-rejected',
      message: expect.stringContaining('InvalidAccessKeyId'),
    });
  });

  test('tells who may only read what to grant, and lets him read', async () => {
    await using bucket = await createBucket();
    await bucket.put('prod/kept', 'kept');
    const login = await createS3User({ readOnlyBuckets: [bucket] });
    const store = openS3Store(bucket.name, { prefix: 'prod', credentials: keysOf(login) });
    expect(await store.probe()).toMatchObject({ conditionalWrites: false });
    expect(await store.head('kept')).toMatchObject({ bytes: 4 });
    const denied = {
      code: 'store-access-denied',
      message: expect.stringContaining('s3:PutObject'),
      hint: expect.stringContaining(`grant s3:PutObject on arn:aws:s3:::${bucket.name}/prod/*`),
    };
    await expect(store.probe({ write: true })).rejects.toMatchObject(denied);
    await expect(store.putSmall('new', bytes)).rejects.toMatchObject(denied);
    await expect(store.putStream('new', body())).rejects.toMatchObject(denied);
    await expect(store.delete('kept')).rejects.toMatchObject({
      code: 'store-access-denied',
      hint: expect.stringContaining('s3:DeleteObject'),
    });
    expect(await bucket.listKeys()).toEqual(['prod/kept']);
  });

  test('tells who may do nothing by a HEAD, too, which has no words of its own', async () => {
    await using bucket = await createBucket();
    await bucket.put('kept', 'kept');
    const store = openS3Store(bucket.name, { credentials: keysOf(await createS3User({ readOnlyBuckets: [] })) });
    await expect(store.head('kept')).rejects.toMatchObject({
      code: 'store-access-denied',
      message: expect.stringContaining('s3:GetObject'),
      hint: expect.stringContaining('s3:ListBucket'),
    });
    await expect(store.probe()).rejects.toMatchObject({ hint: expect.stringContaining('grant s3:ListBucket') });
  });

  test('names the endpoint that nobody answers at', async () => {
    const store = openS3Store('bucket', { endpoint: 'http://127.0.0.1:1', retry: { delayMs: 1, retriesMax: 1 } });
    await expect(store.probe()).rejects.toMatchObject({
      code: 'store-unreachable',
      message: expect.stringMatching(/127\.0\.0\.1:1.*ECONNREFUSED/u),
    });
  });

  test('over TLS trusts the authority that is given beside the usual ones, and leaves bodies of parts unsigned', async () => {
    await using bucket = await createBucket();
    await using directory = await makeTempDirectory();
    const tls = await makeCertificate(directory);
    await using proxy = await startFaultProxy(s3Facts().endpoint, tls);
    const options = { endpoint: proxy.endpoint, retry: { delayMs: 1, retriesMax: 1 } };
    await expect(openS3Store(bucket.name, options).probe()).rejects.toMatchObject({
      code: 'store-unreachable',
      message: expect.stringContaining('certificate'),
      hint: expect.stringContaining('PEM'),
    });
    const store = openS3Store(bucket.name, { ...options, caFile: directory.join('cert.pem') });
    await store.probe({ write: true });
    const payloads = new Map<string, unknown>();
    proxy.setFaults(({ operation, headers }) => {
      payloads.set(operation, headers['x-amz-content-sha256']);
      return undefined;
    });
    const content = distinctBytes(17 * MIB);
    expect(await store.putStream('object', streamOf(content))).toMatchObject({ partCount: 3 });
    expect(digestOf(await readObject(store, 'object'))).toBe(digestOf(content));
    expect(payloads.get('UploadPart')).toBe('UNSIGNED-PAYLOAD');
    await store.putSmall('state', bytes);
    expect(payloads.get('PutObject')).toBe(createHash('sha256').update(bytes).digest('hex'));
  });

  test('over plain http signs bodies of parts, and never waits for 100-continue', async () => {
    await using bucket = await createBucket();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    const store = openS3Store(bucket.name, { endpoint: proxy.endpoint });
    await store.probe({ write: true });
    const parts: Record<string, unknown>[] = [];
    proxy.setFaults(({ operation, headers }) => {
      if (operation === 'UploadPart') parts.push(headers);
      return undefined;
    });
    await store.putStream('object', streamOf(distinctBytes(17 * MIB)));
    expect(parts).toHaveLength(3);
    for (const headers of parts) {
      expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/u);
      expect(headers['expect']).toBeUndefined();
    }
  });

  test('refuses before the first byte what will never fit into the parts that the store takes', async () => {
    await using bucket = await createBucket();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    const store = openS3Store(bucket.name, { endpoint: proxy.endpoint, provider: 'Scaleway' });
    await store.probe({ write: true });
    proxy.setFaults(() => undefined);
    let blocks = 0;
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      blocks += 1;
      yield bytes;
    };
    await expect(store.putStream('object', counted(), { bytesEstimateMax: 50 * 2 ** 40 })).rejects.toMatchObject({
      code: 'store-failed',
      message: expect.stringContaining('no more than 1000 parts'),
    });
    expect(blocks).toBe(0);
    expect(proxy.seen).not.toContain('CreateMultipartUpload');
  });

  test('signs each attempt of a request anew, for the time at which it is sent', async () => {
    const bucket = await createBucket();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    // Signatures tell seconds apart: each attempt is to fall into another one.
    const clock: Clock = {
      now: () => systemClock.now(),
      monotonicMs: () => systemClock.monotonicMs(),
      sleep: (ms, signal) => systemClock.sleep(Math.max(ms, 1_100), signal),
    };
    const store = openS3Store(bucket.name, { endpoint: proxy.endpoint, clock });
    const attempts: { readonly date: string; readonly signature: string }[] = [];
    proxy.setFaults(({ operation, url, headers }) => {
      if (operation !== 'PutObject' || !url.pathname.endsWith('/signed')) return undefined;
      const [, signature = ''] = /Signature=([0-9a-f]+)/.exec(String(headers['authorization'])) ?? [];
      attempts.push({ date: String(headers['x-amz-date']), signature });
      return attempts.length < 3 ? { kind: 'answer', status: 503, code: 'SlowDown' } : undefined;
    });
    await store.putSmall('signed', bytes);
    const dates = attempts.map(({ date }) => date);
    expect(dates).toEqual([...new Set(dates)].sort());
    expect(new Set(attempts.map(({ signature }) => signature)).size).toBe(3);
    expect(attempts).toHaveLength(3);
    await store.close();
    await bucket.remove();
  });

  test.each(['knows', 'does not know'])(
    'sends a checksum with every write, as a bucket with Object Lock wants it, to a store that %s CRC-32',
    async (knows) => {
      await using bucket = await createBucket();
      await using proxy = await startFaultProxy(s3Facts().endpoint);
      const store = openS3Store(bucket.name, { endpoint: proxy.endpoint });
      const md5s: Record<string, unknown[]> = { PutObject: [], UploadPart: [] };
      const checksumHeaders = new Set<string>();
      proxy.setFaults(({ operation, headers }) => {
        for (const name of Object.keys(headers)) {
          if (/^x-amz-(checksum|sdk-checksum|trailer)/u.test(name)) checksumHeaders.add(`${operation}: ${name}`);
        }
        const sent = md5s[operation];
        if (sent === undefined) return undefined;
        sent.push(headers['content-md5']);
        // Whether it fits is for the server behind to check.
        if (headers['content-md5'] === undefined && headers['x-amz-checksum-crc32'] === undefined)
          return { kind: 'answer', status: 400, code: 'InvalidRequest' };
        return knows === 'knows' || operation === 'PutObject'
          ? undefined
          : { kind: 'headers', headers: { 'x-amz-checksum-crc32': '' } };
      });
      await store.probe({ write: true });
      for (const sent of Object.values(md5s)) sent.length = 0;
      checksumHeaders.clear();
      const content = distinctBytes(17 * MIB);
      await store.putSmall('state', bytes);
      await store.putStream('whole', body());
      const { confirmedBy } = await store.putStream('parts', streamOf(content));
      expect(digestOf(await readObject(store, 'parts'))).toBe(digestOf(content));
      const md5Of = (part: Uint8Array): string => createHash('md5').update(part).digest('base64');
      expect(md5s['PutObject']).toEqual([md5Of(bytes), md5Of(bytes)]);
      const parts = [0, 8, 16].map((start) => md5Of(content.subarray(start * MIB, (start + 8) * MIB)));
      const byCrc32 = parts.map(() => undefined);
      expect(md5s['UploadPart']?.toSorted()).toEqual(confirmedBy === 'crc32' ? byCrc32 : parts.toSorted());
      if (knows === 'knows') return;
      expect(confirmedBy).toBe('md5');
      // The SDK would send CRC-32 of its own, and ask for it: stores that do not know it refuse that.
      expect([...checksumHeaders]).toEqual([]);
    },
  );

  test.each([
    ['If-Match', 'if-match'],
    ['If-None-Match', 'if-none-match'],
  ])('finds out that a store ignores %s, and then looks before it writes', async (_title, name) => {
    await using bucket = await createBucket();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    // To a client, a store that ignores the condition is one whose every write succeeds.
    const success = { kind: 'replace-answer', status: 200, body: '<CompleteMultipartUploadResult/>' } as const;
    proxy.setFaults(({ headers }) => (headers[name] === undefined ? undefined : success));
    const store = openS3Store(bucket.name, { endpoint: proxy.endpoint });
    expect(await store.probe({ write: true })).toMatchObject({ conditionalWrites: false });
    const failed = { code: 'store-condition-failed' };
    const first = await store.putSmall('state', Buffer.from('1'), { condition: { ifAbsent: true } });
    await expect(store.putSmall('state', bytes, { condition: { ifAbsent: true } })).rejects.toMatchObject(failed);
    await store.putSmall('state', Buffer.from('2'), { condition: { ifMatch: first.etag } });
    await expect(store.putSmall('state', bytes, { condition: { ifMatch: first.etag } })).rejects.toMatchObject(failed);
    await expect(store.putStream('state', body())).rejects.toMatchObject({ code: 'object-exists' });
    expect((await bucket.get('state')).toString()).toBe('2');
  });

  test('asks for credentials anew with each request, so that short-lived ones never run out in an upload', async () => {
    await using bucket = await createBucket();
    const { endpoint, accessKey, secretKey } = s3Facts();
    await using proxy = await startFaultProxy(endpoint);
    // What came in which order: questions for credentials, the end of the last ones' life, parts.
    let told: string[] = [];
    let expiration = new Date();
    const credentialServer = createServer((_request, response) => {
      told.push('question');
      expiration = new Date(Date.now() + 1000);
      response.setHeader('content-type', 'application/json');
      response.end(
        JSON.stringify({ AccessKeyId: accessKey, SecretAccessKey: secretKey, Token: '', Expiration: expiration }),
      );
    }).listen(0, '127.0.0.1');
    await once(credentialServer, 'listening');
    const { port } = credentialServer.address() as AddressInfo;
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE']) vi.stubEnv(name, undefined);
    vi.stubEnv('AWS_CONFIG_FILE', '/nonexistent');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent');
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `http://127.0.0.1:${port}/credentials`);
    try {
      const store = openS3Store(bucket.name, { endpoint: proxy.endpoint, credentials: { kind: 'default-chain' } });
      await store.probe({ write: true });
      told = [];
      proxy.setFaults(({ partNumber }) => {
        if (partNumber !== undefined) told.push(`part ${partNumber}`);
        return undefined;
      });
      // Credentials that live on may be asked for beside a request that still uses them; a request that is
      // made after their end has to wait for others. So part 2 is whole only after it.
      const parts = async function* (): AsyncGenerator<Uint8Array> {
        for (let block = 0; block < 12; block += 1) yield Buffer.alloc(MIB, block);
        while (Date.now() <= expiration.getTime()) await setTimeout(expiration.getTime() - Date.now() + 1);
        told.push('run out');
        for (let block = 12; block < 20; block += 1) yield Buffer.alloc(MIB, block);
      };
      expect(await store.putStream('object', parts())).toMatchObject({ partCount: 3 });
      const after = told.slice(told.indexOf('run out') + 1);
      const asked = after.indexOf('question');
      const used = Math.min(after.indexOf('part 2'), after.indexOf('part 3'));
      expect({ isAskedFirst: asked !== -1 && asked < used, told }).toEqual({ isAskedFirst: true, told });
    } finally {
      vi.unstubAllEnvs();
      credentialServer.close();
    }
  });
});
