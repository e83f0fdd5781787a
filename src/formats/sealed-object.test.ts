import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { bytesOf, noise } from '../../test/support/streams.ts';
import { type ByteStream, MIB, once } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import type { CompressionAlgorithm } from '../pipeline/compression.ts';
import type { ObjectKey, StoredObject } from '../storage/object-store.ts';
import { dumpPlain } from './plain/dump.ts';
import { readSealed, SealedStream } from './sealed-object.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgark-sealed-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Fails while it waits for the first block, and tells the stream to end without waiting for that, as the S3 store does. */
class FailingStore extends MemoryStore {
  readonly #fail: () => Promise<never>;

  constructor(fail: () => Promise<never>) {
    super();
    this.#fail = fail;
  }

  override async putStream(_key: ObjectKey, body: ByteStream): Promise<StoredObject> {
    const iterator = body[Symbol.asyncIterator]();
    iterator.next().catch(() => undefined);
    try {
      return await this.#fail();
    } finally {
      iterator.return?.()?.catch(() => undefined);
    }
  }
}

describe('a dump whose upload fails', () => {
  test.each<CompressionAlgorithm>(['none', 'zstd'])(
    'is ended at once although pg_dump is silent (%s)',
    async (algorithm) => {
      const [program, pidFile] = [join(folder, `dump-${algorithm}`), join(folder, `pid-${algorithm}`)];
      await writeFile(
        program,
        `#!/bin/sh\necho $$ > ${pidFile}\nexec "${process.execPath}" -e "setInterval(() => {}, 1000)"\n`,
      );
      await chmod(program, 0o755);
      const error = new Error('the store is full');
      let pid = Number.NaN;
      const store = new FailingStore(async () => {
        while (!(pid > 0)) {
          pid = Number(await readFile(pidFile, 'utf8').catch(() => ''));
          await new Promise((resolve) => setImmediate(resolve));
        }
        throw error;
      });
      const source = dumpPlain({
        connection: { host: '127.0.0.1', port: 1, user: 'u', database: 'd', sslMode: 'disable' },
        pgDump: { path: program, major: 17, minor: 0, version: '17.0' },
        serverMajor: 17,
        excludeTableData: [],
        applicationName: 'test',
        logger: silentLogger,
      });
      const seal = { compression: { algorithm, level: algorithm === 'none' ? 0 : 3 } };
      const stream = new SealedStream({ key: 'a.sql', role: 'dump', seal, source, outlets: 1 });
      await expect(stream.outlets[0]?.put(store, {})).rejects.toBe(error);
      expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    },
  );
});

describe('content without a digest of its own', () => {
  test.each([true, false])(
    'comes back, and one of another length does not (digests in a thread: %s)',
    async (inThread) => {
      const store = new MemoryStore();
      const content = noise(3 * MIB + 5);
      const compression = { algorithm: 'zstd', level: 2 } as const;
      const stream = new SealedStream({
        key: 'base.tar.zst',
        role: 'base',
        source: once(content),
        seal: { compression },
        outlets: 1,
        digestsInThread: inThread,
        isContentDigested: false,
      });
      const [outlet] = stream.outlets;
      assert(outlet !== undefined, 'the stream has an outlet');
      const { object } = await outlet.put(store, {});
      expect(object).not.toHaveProperty('plainSha256');
      expect(object.plainBytes).toBe(content.length);
      const read = (plainBytes: number) =>
        bytesOf(
          readSealed(
            store,
            { compression, encryption: undefined },
            { ...object, plainBytes },
            { keys: { identities: [], passphrases: [] } },
          ),
        );
      expect(await read(content.length)).toEqual(content);
      await expect(read(content.length + 1)).rejects.toMatchObject({ code: 'corrupt' });
      await expect(read(content.length - 1)).rejects.toMatchObject({ code: 'corrupt' });
    },
  );
});

/** Takes one block, then hangs whatever its signal says, as a dead NFS server does. */
class HangingStore extends MemoryStore {
  readonly hanging = Promise.withResolvers<undefined>();

  override async putStream(_key: ObjectKey, body: ByteStream): Promise<StoredObject> {
    await body[Symbol.asyncIterator]().next();
    this.hanging.resolve(undefined);
    return new Promise(() => {});
  }
}

test('a store that hangs holds the others up until its signal is aborted, and no longer', async () => {
  let blocks = 0;
  const source = async function* (): ByteStream {
    for (; blocks < 100; blocks += 1) yield new Uint8Array(2 ** 20).fill(blocks);
  };
  const stream = new SealedStream({
    key: 'a.sql',
    role: 'dump',
    seal: { compression: { algorithm: 'none', level: 0 } },
    source: source(),
    outlets: 2,
  });
  const [store, hangs] = [new MemoryStore(), new HangingStore()];
  const abort = new AbortController();
  void stream.outlets[1]?.put(hangs, { signal: abort.signal });
  const put = stream.outlets[0]?.put(store, {});
  await hangs.hanging.promise;
  for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(blocks).toBeLessThan(10);
  abort.abort(new Error('given up'));
  expect((await put)?.object.storedBytes).toBe(100 * 2 ** 20);
});

test('a store that takes the end of a stream that it was made to leave is not believed', async () => {
  const stream = new SealedStream({
    key: 'a.sql',
    role: 'dump',
    seal: { compression: { algorithm: 'none', level: 0 } },
    source: (async function* (): ByteStream {
      yield new Uint8Array(10);
    })(),
    outlets: 1,
  });
  const signal = AbortSignal.abort(new Error('given up'));
  await expect(stream.outlets[0]?.put(new MemoryStore(), { signal })).rejects.toBe(signal.reason);
  await expect(stream.close()).resolves.toBeUndefined();
});
