import { zstdDecompressSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { openFileStore } from '../../../test/support/file-place.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { bytesOf } from '../../../test/support/streams.ts';
import { madeSegment } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { type Logger, silentLogger } from '../../common/log.ts';
import { Secret } from '../../common/secret.ts';
import { generateAgeIdentity } from '../../pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../pipeline/encryption/age-sealer.ts';
import { opensslSealer } from '../../pipeline/encryption/openssl-sealer.ts';
import type { DecryptionKeys, Sealer } from '../../pipeline/encryption/sealer.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { readFacts, readPiece } from './read-piece.ts';
import type { WalPiece } from './wal-piece.ts';
import {
  compareEncryptedOtherwise,
  putTimelineHistory,
  putWalDelta,
  putWalFile,
  type WalPlace,
} from './store-piece.ts';

const SEGMENT = { timeline: 1, number: 7n };
const BYTES = madeSegment(SEGMENT);
const KEY = 'shop/wal/7380000000000000001/00000001/000000010000000000000007';
const NO_KEYS: DecryptionKeys = { identities: [], passphrases: [] };

let sealers: Record<'none' | 'age' | 'openssl', { sealer: Sealer | undefined; keys: DecryptionKeys }>;
beforeAll(async () => {
  const { identity, recipient } = await generateAgeIdentity();
  const passphrase = new Secret('a passphrase of more than 32 characters');
  sealers = {
    none: { sealer: undefined, keys: NO_KEYS },
    age: { sealer: await ageSealer({ recipients: [recipient] }), keys: { identities: [identity], passphrases: [] } },
    openssl: { sealer: await opensslSealer({ passphrase }), keys: { identities: [], passphrases: [passphrase] } },
  };
});

function placeIn(store: ObjectStore, kind: keyof typeof sealers = 'none', keys = sealers[kind].keys): WalPlace {
  return { store, folder: WAL_FOLDER, sealer: sealers[kind].sealer, keys };
}

describe('a segment in the archive', () => {
  test('is what zstd decompresses, and says what it is', async () => {
    const store = new MemoryStore();
    const piece = pieceOf(SEGMENT, BYTES);
    expect(await putWalFile(placeIn(store), piece)).toBe('stored');
    const { content, facts } = await readPiece(store, { key: `${KEY}.zst`, encryption: undefined }, { keys: NO_KEYS });
    expect(facts).toEqual(piece.facts);
    expect((await bytesOf(content)).equals(BYTES)).toBe(true);
    const stored = store.objects.get(`${KEY}.zst`);
    expect(zstdDecompressSync(stored?.bytes ?? '').equals(BYTES)).toBe(true);
    expect(stored?.info.metadata).toMatchObject({
      'pgark-wal': '7380000000000000001 1 0/700000 0/800000',
      'pgark-time': '2026-11-20T02:00:10.000007Z',
    });
  });

  test.each(['none', 'age', 'openssl'] as const)('is the same again, or refused (encryption: %s)', async (kind) => {
    const { sealer, keys } = sealers[kind];
    const suffix = sealer?.suffix;
    const other = madeSegment(SEGMENT, { seed: 8 });
    await using files = await disposable();
    for (const store of [new MemoryStore(), new MemoryStore({ keepsMetadata: false }), files.store]) {
      // Whoever has only what encrypts compares without reading.
      for (const withKeys of [keys, NO_KEYS]) {
        const place = placeIn(store, kind, withKeys);
        expect(['stored', 'present']).toContain(await putWalFile(place, pieceOf(SEGMENT, BYTES)));
        expect(await putWalFile(place, pieceOf(SEGMENT, BYTES))).toBe('present');
        await expect(putWalFile(place, pieceOf(SEGMENT, other))).rejects.toMatchObject({
          code: 'wal-conflict',
          message: expect.stringContaining(`${KEY}.zst${suffix ?? ''}`),
        });
      }
      const { content } = await readPiece(store, { key: `${KEY}.zst${suffix ?? ''}`, encryption: suffix }, { keys });
      expect((await bytesOf(content)).equals(BYTES)).toBe(true);
    }
  });

  test.each(['none', 'age', 'openssl'] as const)(
    'is the same from an archive_command, which knows less of it than a receiver (encryption: %s)',
    async (kind) => {
      const place = placeIn(new MemoryStore({ keepsMetadata: false }), kind, NO_KEYS);
      const received = pieceOf(SEGMENT, BYTES);
      const pushed = { ...received, facts: { ...received.facts, serverEnd: undefined } };
      expect(await putWalFile(place, received)).toBe('stored');
      expect(await putWalFile(place, pushed)).toBe('present');
    },
  );

  test('is compared with what is archived of it otherwise encrypted, as far as anybody here can', async () => {
    const other = pieceOf(SEGMENT, madeSegment(SEGMENT, { seed: 8 }));
    const same = pieceOf(SEGMENT, BYTES);
    const age = `${KEY}.zst.age`;
    for (const [keepsMetadata, keys, unknown] of [
      [true, NO_KEYS, []],
      [false, sealers.age.keys, []],
      [false, NO_KEYS, [age]],
    ] as const) {
      const store = new MemoryStore({ keepsMetadata });
      const place = placeIn(store, 'none', keys);
      /** Keys of what it warns of. */
      const compare = async (piece: WalPiece): Promise<readonly unknown[]> => {
        const warned: unknown[] = [];
        const warning: Logger['warning'] = (_, __, fields) => void warned.push(fields?.['key']);
        await compareEncryptedOtherwise(place, piece, { ...silentLogger, warning });
        return warned;
      };
      expect(await compare(same)).toEqual([]);
      await putWalFile(placeIn(store, 'age'), same);
      await putWalDelta(placeIn(store, 'age'), pieceOf(SEGMENT, BYTES, 0, 8_000));
      await putWalFile(place, other);
      expect(await compare(same)).toEqual(unknown);
      const compared = compare(other);
      if (unknown.length > 0) expect(await compared).toEqual(unknown);
      else
        await expect(compared).rejects.toMatchObject({ code: 'wal-conflict', message: expect.stringContaining(age) });
    }
  });

  test('that is damaged is neither read to its end nor taken for the same', async () => {
    const store = new MemoryStore({ keepsMetadata: false });
    await putWalFile(placeIn(store), pieceOf(SEGMENT, BYTES));
    const stored = Buffer.from(store.objects.get(`${KEY}.zst`)?.bytes ?? '');
    const damages: readonly [string, (bytes: Buffer) => Uint8Array][] = [
      ['is truncated', (bytes) => bytes.subarray(0, -400_000)],
      ['damaged', (bytes) => bytes.fill(0x55, 100_000, 100_100)],
      ['does not begin with what it holds', (bytes) => bytes.subarray(8)],
      ['is not a piece of WAL', (bytes) => bytes.fill(0x20, 18, 30)],
    ];
    for (const [why, damage] of damages) {
      await store.putSmall(`${KEY}.zst`, damage(Buffer.from(stored)));
      const read = async (): Promise<unknown> => {
        const { content } = await readPiece(store, { key: `${KEY}.zst`, encryption: undefined }, { keys: NO_KEYS });
        return bytesOf(content);
      };
      await expect(read()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining(why) });
      await expect(putWalFile(placeIn(store), pieceOf(SEGMENT, BYTES))).rejects.toMatchObject({ code: 'corrupt' });
    }
  });
});

test('the facts of a piece are read without its content', async () => {
  const store = new MemoryStore();
  const piece = pieceOf(SEGMENT, BYTES);
  await putWalFile(placeIn(store, 'age'), piece);
  const { keys } = sealers.age;
  expect(await readFacts(store, { key: `${KEY}.zst.age`, encryption: '.age' }, { keys })).toEqual(piece.facts);
  await expect(
    readFacts(store, { key: `${KEY}.zst.age`, encryption: '.age' }, { keys: NO_KEYS }),
  ).rejects.toMatchObject({ code: 'key-missing', message: expect.stringContaining(KEY) });
});

test('a delta holds its bytes alone, and replaces one of the same range', async () => {
  const store = new MemoryStore();
  for (const bytes of [madeSegment(SEGMENT, { seed: 9 }), BYTES]) {
    const piece = pieceOf(SEGMENT, bytes, 8_000, 20_000);
    const key = await putWalDelta(placeIn(store, 'openssl'), piece);
    expect(key).toBe(`${KEY}.001F40-004E20.delta.zst.enc`);
    const { content } = await readPiece(store, { key, encryption: '.enc' }, { keys: sealers.openssl.keys });
    expect((await bytesOf(content)).equals(bytes.subarray(8_000, 20_000))).toBe(true);
  }
});

test('the history of a timeline is stored as it is, once', async () => {
  for (const conditionalWrites of [true, false]) {
    const store = new MemoryStore({ conditionalWrites });
    const place = placeIn(store, 'age');
    const content = Buffer.from('1\t0/3000148\tno recovery target specified\n');
    expect(await putTimelineHistory(place, '00000002.history', content)).toBe('stored');
    expect(await putTimelineHistory(place, '00000002.history', content)).toBe('present');
    const other = Buffer.from('1\t0/3000200\tno recovery target specified\n');
    await expect(putTimelineHistory(place, '00000002.history', other)).rejects.toMatchObject({ code: 'wal-conflict' });
    const stored = store.objects.get('shop/wal/7380000000000000001/00000002.history');
    expect(Buffer.from(stored?.bytes ?? '')).toEqual(content);
  }
});

async function disposable(): Promise<AsyncDisposable & { readonly store: ObjectStore }> {
  const { store, dispose } = await openFileStore();
  return { store, [Symbol.asyncDispose]: dispose };
}
