import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../common/bytes.ts';
import { Secret } from '../../common/secret.ts';
import { openSealed } from './open-sealed.ts';
import { opensslSealer } from './openssl-sealer.ts';
import { looksLikeBackup, PLAUSIBILITY_BYTES } from './plausible-plaintext.ts';
import type { EncryptionRecord, OpenableRecord } from './sealer.ts';

const SIZES = [0, 1, 15, 16, 17, 32, 271, 272, 273, 288, 304, 305, 65_536, 1_048_575, 1_048_576, 1_048_577];
const DUMP = Buffer.from('--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n'.repeat(50));

const passphrase = new Secret('the quick brown fox jumps över the lazy dog');
const wrong = new Secret('the quick brown fox jumps over the lazy dog');
const sealer = await opensslSealer({ passphrase });

async function* inBlocks(bytes: Uint8Array, blockBytes = 1_048_576): ByteStream {
  for (let offset = 0; offset < bytes.length; offset += blockBytes) yield bytes.slice(offset, offset + blockBytes);
}

async function collect(stream: ByteStream): Promise<Buffer> {
  const blocks: Uint8Array[] = [];
  for await (const block of stream) blocks.push(block);
  return Buffer.concat(blocks);
}

function seal(plain: Uint8Array, blockBytes?: number): Promise<Buffer> {
  return collect(sealer.seal()(inBlocks(plain, blockBytes)));
}

function open(
  sealed: Uint8Array,
  passphrases: readonly Secret[] = [passphrase],
  record: OpenableRecord = sealer.record,
  blockBytes?: number,
): Promise<Buffer> {
  return collect(openSealed(record, { identities: [], passphrases })(inBlocks(sealed, blockBytes)));
}

function stock(args: readonly string[], input: Uint8Array): Buffer {
  const env = { ...process.env, PASS: passphrase.reveal() };
  const command = ['enc', '-aes-256-cbc', '-pbkdf2', '-pass', 'env:PASS', ...args];
  const run = spawnSync('openssl', command, { input, env, maxBuffer: 1e8 });
  expect(run.error).toBeUndefined();
  expect(run.stderr.toString()).toBe('');
  return run.stdout;
}

describe('openssl, side by side with the stock program', () => {
  test('openssl decrypts what was sealed without being told the iterations, whatever its length', async () => {
    for (const bytes of SIZES) {
      const plain = randomBytes(bytes);
      expect(stock(['-d'], await seal(plain)).equals(plain), `${bytes} bytes`).toBe(true);
    }
  });

  test('what openssl encrypted is opened, whatever its length', async () => {
    for (const bytes of SIZES) {
      const plain = Buffer.alloc(bytes, DUMP);
      expect((await open(stock([], plain), [passphrase], { scheme: 'openssl' })).equals(plain), `${bytes}`).toBe(true);
    }
  });

  test('another number of iterations works in both directions, and the record keeps it', async () => {
    const slow = await opensslSealer({ passphrase, iterations: 20_000 });
    expect(slow.record.iterations).toBe(20_000);
    const sealed = await collect(slow.seal()(inBlocks(DUMP)));
    expect(stock(['-d', '-iter', '20000'], sealed).equals(DUMP)).toBe(true);
    const foreign = stock(['-iter', '1234'], DUMP);
    expect((await open(foreign, [passphrase], { scheme: 'openssl', iterations: 1234 })).equals(DUMP)).toBe(true);
  });
});

describe('openssl', () => {
  test('every plaintext comes back, however the stream is cut on both ways', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.constantFrom(...SIZES), fc.nat({ max: 3000 })),
        fc.integer({ min: 1, max: 4000 }),
        fc.integer({ min: 1, max: 4000 }),
        async (bytes, sealBlockBytes, openBlockBytes) => {
          const plain = randomBytes(bytes);
          const sealed = await seal(plain, sealBlockBytes);
          expect((await open(sealed, [wrong, passphrase], sealer.record, openBlockBytes)).equals(plain)).toBe(true);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('two objects of one sealer share no salt', async () => {
    const [one, two] = [await seal(DUMP), await seal(DUMP)];
    expect(one.subarray(8, 16).equals(two.subarray(8, 16))).toBe(false);
  });

  test('passphrases of fewer than 32 characters are refused, counted as characters', async () => {
    const short = 'äöü€'.repeat(8).slice(1);
    const refusal = await opensslSealer({ passphrase: new Secret(short) }).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: 'key-invalid' });
    expect(String(refusal)).toContain('31 characters');
    expect(String(refusal)).not.toContain(short);
    await expect(opensslSealer({ passphrase: new Secret('🐘'.repeat(31)) })).rejects.toThrow('31 characters');
    await expect(opensslSealer({ passphrase: new Secret(`${short}x`) })).resolves.toBeDefined();
    await expect(opensslSealer({ passphrase, iterations: 9_999 })).rejects.toMatchObject({ code: 'config-invalid' });
  });

  test('the record has nothing of the passphrase, and no two records are alike', async () => {
    const again = await opensslSealer({ passphrase });
    expect(again.record.keyFingerprints).not.toEqual(sealer.record.keyFingerprints);
    expect(sealer.record.keyFingerprints).toEqual([expect.stringMatching(/^pbkdf2:[\w-]{22}:[0-9a-f]{16}$/)]);
    expect((await open(await seal(DUMP), [passphrase], again.record)).equals(DUMP)).toBe(true);
  });
});

describe('wrong keys and damage of openssl', () => {
  const foreign: OpenableRecord = { scheme: 'openssl' };

  test('a wrong passphrase is told by the record before any data, none at once', async () => {
    const stage = openSealed(sealer.record, { identities: [], passphrases: [wrong] })(inBlocks(await seal(DUMP)));
    await expect(stage[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'wrong-key', exitCode: 12 });
    expect(() => openSealed(sealer.record, { identities: [passphrase], passphrases: [] })).toThrow(
      expect.objectContaining({
        message: expect.stringContaining('none was given'),
        hint: expect.stringContaining('--passphrase-file FILE'),
      }),
    );
  });

  test('without a record, a wrong passphrase is told by what comes out, before any data', async () => {
    for (const plain of [DUMP, gzipSync(DUMP)]) {
      const sealed = await seal(plain);
      const stage = openSealed(foreign, { identities: [], passphrases: [wrong] })(inBlocks(sealed));
      const refusal = stage[Symbol.asyncIterator]().next();
      await expect(refusal).rejects.toThrow('wrong passphrase, or the encrypted data is damaged');
      expect((await open(sealed, [wrong, passphrase], foreign)).equals(plain)).toBe(true);
    }
  });

  test('a fingerprint of a later version is passed over', async () => {
    const later: EncryptionRecord = { scheme: 'openssl', keyFingerprints: ['argon9:abc'] };
    const sealed = await seal(DUMP);
    expect((await open(sealed, [passphrase], later)).equals(DUMP)).toBe(true);
    await expect(open(sealed, [wrong], later)).rejects.toMatchObject({ code: 'wrong-key' });
  });

  test('a file cut off at any byte is refused', async () => {
    // Letters are no padding, so that a cut between two blocks is always seen.
    for (const [plainBytes, firstCut] of [
      [70, 0],
      [330, 285],
    ] as const) {
      const sealed = await seal(Buffer.alloc(plainBytes, 'a'));
      for (let bytes = firstCut; bytes < sealed.length; bytes += 1) {
        await expect(open(sealed.subarray(0, bytes)), `${bytes}`).rejects.toMatchObject({ code: 'corrupt' });
      }
      const cutInBlock = open(sealed.subarray(0, -1), [passphrase], foreign);
      await expect(cutInBlock).rejects.toMatchObject({ code: 'corrupt' });
    }
  });

  test('a wrong last block is damage where the key is known to be right, and ambiguous where not', async () => {
    const sealed = await seal(Buffer.alloc(1000, DUMP));
    // The last byte of the last block but one turns the padding's last byte, 8, into 136.
    sealed[sealed.length - 17] = (sealed.at(-17) ?? 0) ^ 0x80;
    await expect(open(sealed)).rejects.toMatchObject({ code: 'corrupt', exitCode: 20 });
    const ambiguous = await open(sealed, [passphrase], foreign).catch((error: unknown) => error);
    expect(ambiguous).toMatchObject({ code: 'wrong-key' });
    expect(String(ambiguous)).toContain('or the encrypted data is damaged');
  });

  test('what does not begin as openssl’s is refused', async () => {
    await expect(open(DUMP)).rejects.toMatchObject({ code: 'corrupt' });
    await expect(open(Buffer.alloc(0))).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('a record that asks for unbounded work is refused without doing it', () => {
    for (const iterations of [0, 1.5, 10_000_001, 2 ** 31]) {
      const keys = { identities: [], passphrases: [passphrase] };
      expect(() => openSealed({ scheme: 'openssl', iterations }, keys)).toThrow('iterations');
    }
  });
});

describe('plausible plaintext', () => {
  test('dumps in any encoding and known containers pass, random bytes do not', () => {
    expect(looksLikeBackup(DUMP)).toBe(true);
    expect(looksLikeBackup(Buffer.from('INSERT INTO größe VALUES (1);\r\n', 'latin1'))).toBe(true);
    expect(looksLikeBackup(gzipSync(''))).toBe(true);
    const tar = Buffer.alloc(PLAUSIBILITY_BYTES);
    tar.write('base/1\0');
    tar.write('ustar', 257);
    expect(looksLikeBackup(tar)).toBe(true);
    expect(looksLikeBackup(Buffer.alloc(PLAUSIBILITY_BYTES))).toBe(false);
    const passed = Array.from({ length: 2000 }, () => looksLikeBackup(randomBytes(PLAUSIBILITY_BYTES)));
    expect(passed.filter(Boolean).length).toBeLessThanOrEqual(1);
  });
});
