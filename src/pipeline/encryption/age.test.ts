import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { armor, Decrypter, Encrypter, generateHybridIdentity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ByteStream } from '../../common/bytes.ts';
import { Secret } from '../../common/secret.ts';
import { fingerprintOfRecipient, formatIdentityFile, generateAgeIdentity, parseIdentityFile } from './age-keys.ts';
import { ageSealer } from './age-sealer.ts';
import { detectEncryption, openSealed } from './open-sealed.ts';
import type { DecryptionKeys, OpenableRecord, Sealer } from './sealer.ts';

const CHUNK = 65_536;
const SIZES = [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK, 1_048_576, 1_100_000];

const { identity, recipient } = await generateAgeIdentity();
const other = await generateAgeIdentity();
const passphrase = new Secret('correct horse');
const directory = mkdtempSync(join(tmpdir(), 'pgark-age-'));
const identityFile = join(directory, 'identity');
let sealer: Sealer;
beforeAll(async () => {
  writeFileSync(identityFile, formatIdentityFile(identity, recipient, new Date()), { mode: 0o600 });
  sealer = await ageSealer({ recipients: [recipient] });
});
afterAll(() => rmSync(directory, { recursive: true }));

async function* inBlocks(bytes: Uint8Array, blockBytes = 1_048_576): ByteStream {
  for (let offset = 0; offset < bytes.length; offset += blockBytes) yield bytes.slice(offset, offset + blockBytes);
}

async function collect(stream: ByteStream): Promise<Buffer> {
  const blocks: Uint8Array[] = [];
  for await (const block of stream) blocks.push(block);
  return Buffer.concat(blocks);
}

function seal(plain: Uint8Array, by: Sealer = sealer, blockBytes?: number): Promise<Buffer> {
  return collect(by.seal()(inBlocks(plain, blockBytes)));
}

function keysOf(...identities: readonly Secret[]): DecryptionKeys {
  return { identities, passphrases: [] };
}

function open(
  sealed: Uint8Array,
  keys: DecryptionKeys = keysOf(identity),
  record: OpenableRecord = { scheme: 'age' },
  blockBytes?: number,
): Promise<Buffer> {
  return collect(openSealed(record, keys)(inBlocks(sealed, blockBytes)));
}

describe('age, side by side with stock tools', () => {
  test('the age program decrypts what was sealed, whatever its length', async () => {
    for (const bytes of SIZES) {
      const plain = randomBytes(bytes);
      const stock = spawnSync('age', ['-d', '-i', identityFile], { input: await seal(plain), maxBuffer: 1e8 });
      expect(stock.error).toBeUndefined();
      expect(stock.stderr.toString()).toBe('');
      expect(stock.stdout.equals(plain), `${bytes} bytes`).toBe(true);
    }
  });

  test('what the age program encrypted is opened, whatever its length', async () => {
    for (const bytes of SIZES) {
      const plain = randomBytes(bytes);
      const stock = spawnSync('age', ['-r', other.recipient, '-r', recipient], { input: plain, maxBuffer: 1e8 });
      expect(stock.error).toBeUndefined();
      expect((await open(stock.stdout)).equals(plain), `${bytes} bytes`).toBe(true);
    }
  });

  test('a passphrase works in both directions with another implementation', async () => {
    const plain = randomBytes(100_000);
    const byPassphrase = await ageSealer({ passphrase, workFactor: 4 });
    const decrypter = new Decrypter();
    decrypter.addPassphrase(passphrase.reveal());
    expect(Buffer.from(await decrypter.decrypt(await seal(plain, byPassphrase))).equals(plain)).toBe(true);
    const encrypter = new Encrypter();
    encrypter.setPassphrase(passphrase.reveal());
    encrypter.setScryptWorkFactor(5);
    const passphrases = [new Secret('wrong'), passphrase];
    const opened = await open(await encrypter.encrypt(plain), { identities: [identity], passphrases });
    expect(opened.equals(plain)).toBe(true);
  });

  test('a passphrase for many objects seals one key, which opens them, and stands nowhere in them', async () => {
    const byPassphrase = await ageSealer({ passphrase, workFactor: 4 });
    const many = await byPassphrase.forMany?.();
    if (many === undefined) throw new Error('there is no sealer for many');
    expect(many.sealer.record).toEqual(byPassphrase.record);
    const [key] = parseIdentityFile(many.identityFile.reveal());
    if (key === undefined) throw new Error('there is no key');
    const plain = randomBytes(1000);
    const sealed = await seal(plain, many.sealer);
    expect((await open(sealed, keysOf(key))).equals(plain)).toBe(true);
    expect(sealed.includes(await identityToRecipient(key.reveal()))).toBe(false);
    const another = await byPassphrase.forMany?.();
    await expect(
      open(sealed, { identities: parseIdentityFile(another?.identityFile.reveal() ?? ''), passphrases: [passphrase] }),
    ).rejects.toMatchObject({ code: 'wrong-key' });
    expect(sealer.forMany).toBeUndefined();
  });

  test('the default cost of a passphrase is age’s own', async () => {
    const sealed = await seal(Buffer.from('x'), await ageSealer({ passphrase }));
    expect(sealed.toString('latin1')).toMatch(/^age-encryption\.org\/v1\n-> scrypt \S{22} 18\n/);
  });

  test('post-quantum recipients work in both directions with another implementation', async () => {
    const hybrid = await generateHybridIdentity();
    const hybridRecipient = await identityToRecipient(hybrid);
    const byHybrid = await ageSealer({ recipients: [hybridRecipient] });
    expect(byHybrid.record.keyFingerprints).toEqual([fingerprintOfRecipient(hybridRecipient)]);
    const plain = randomBytes(1000);
    const sealed = await seal(plain, byHybrid);
    const decrypter = new Decrypter();
    decrypter.addIdentity(hybrid);
    expect(Buffer.from(await decrypter.decrypt(sealed)).equals(plain)).toBe(true);
    expect((await open(sealed, keysOf(identity, new Secret(hybrid)))).equals(plain)).toBe(true);
  });
});

describe('age', () => {
  test('every plaintext comes back, however the stream is cut on both ways', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.constantFrom(...SIZES), fc.nat({ max: 300_000 })),
        fc.integer({ min: 300, max: 200_000 }),
        fc.integer({ min: 300, max: 200_000 }),
        async (bytes, sealBlockBytes, openBlockBytes) => {
          const plain = randomBytes(bytes);
          const sealed = await seal(plain, sealer, sealBlockBytes);
          expect((await open(sealed, keysOf(identity), sealer.record, openBlockBytes)).equals(plain)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
    const plain = randomBytes(500);
    expect(await open(await seal(plain, sealer, 1), keysOf(identity), sealer.record, 1)).toEqual(plain);
  });

  test('each of several recipients opens it with its own identity', async () => {
    const both = await ageSealer({ recipients: [recipient, other.recipient, recipient] });
    expect(both.record).toEqual({ scheme: 'age', keyFingerprints: [recipient, other.recipient] });
    const sealed = await seal(Buffer.from('for both'), both);
    for (const one of [identity, other.identity]) expect((await open(sealed, keysOf(one))).toString()).toBe('for both');
  });

  test('two objects of one sealer share neither file key nor nonce, also when a stage is used twice', async () => {
    const stage = sealer.seal();
    const plain = Buffer.alloc(1000);
    const first = await collect(stage(inBlocks(plain)));
    const second = await collect(stage(inBlocks(plain)));
    expect(first.subarray(-1016).equals(second.subarray(-1016))).toBe(false);
    expect(first.subarray(-1032, -1016).equals(second.subarray(-1032, -1016))).toBe(false);
  });

  test('a stage that is left early ends its source, and an error of the source passes as it is', async () => {
    const sealed = await seal(randomBytes(300_000));
    for (const stage of [sealer.seal(), openSealed(sealer.record, keysOf(identity))]) {
      let ended = false;
      const source = async function* (): ByteStream {
        try {
          yield* inBlocks(sealed, 100_000);
        } finally {
          ended = true;
        }
      };
      let blocks = 0;
      for await (const block of stage(source())) {
        blocks += block.length > 16 ? 1 : 0;
        if (blocks === 2) break;
      }
      expect(ended).toBe(true);
      const failure = new Error('the source broke');
      const broken = async function* (): ByteStream {
        yield sealed.subarray(0, 100_000);
        throw failure;
      };
      await expect(collect(stage(broken()))).rejects.toBe(failure);
    }
  });

  test('encryption is recognised by its first bytes', async () => {
    expect(detectEncryption(await seal(Buffer.from('x')))).toBe('age');
    expect(detectEncryption(Buffer.from(armor.encode(await seal(Buffer.from('x')))))).toBe('age');
    expect(detectEncryption(Buffer.from('Salted__12345678'))).toBe('openssl');
    for (const plain of ['', 'Salted', '--\n-- PostgreSQL', '\x1f\x8b\x08']) {
      expect(detectEncryption(Buffer.from(plain, 'latin1'))).toBeUndefined();
    }
  });
});

describe('keys of age', () => {
  test('recipients that cannot be encrypted to are refused before a backup begins', async () => {
    const lowOrderPoint = 'age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z';
    const hybrid = await identityToRecipient(await generateHybridIdentity());
    for (const recipients of [[], ['nonsense'], [identity.reveal()], [recipient, hybrid]]) {
      const refusal = await ageSealer({ recipients }).catch((error: unknown) => error);
      expect(refusal).toMatchObject({ code: 'key-invalid' });
      expect(String(refusal)).not.toContain(identity.reveal());
    }
    await expect(ageSealer({ recipients: [recipient, lowOrderPoint] })).rejects.toThrow('to recipient 2');
    await expect(ageSealer({ recipients: Array.from({ length: 65 }, (_, index) => `age1${index}`) })).rejects.toThrow(
      'more than 64',
    );
  });

  test('a passphrase that stock tools could not be given is refused', async () => {
    for (const bad of ['', '   ', 'two\nlines', 'nul\0', 'x'.repeat(512), '\ud800']) {
      await expect(ageSealer({ passphrase: new Secret(bad) })).rejects.toMatchObject({ code: 'key-invalid' });
    }
  });

  test('no key is told apart from a wrong key, and neither lets any data out', async () => {
    const sealed = await seal(randomBytes(200_000));
    const missing = await open(sealed, keysOf()).catch((error: unknown) => error);
    expect(missing).toMatchObject({ code: 'key-missing', exitCode: 12 });
    const stage = openSealed(sealer.record, keysOf(other.identity))(inBlocks(sealed));
    const wrong = await stage[Symbol.asyncIterator]()
      .next()
      .catch((error: unknown) => error);
    expect(wrong).toMatchObject({ code: 'wrong-key', exitCode: 12 });
    expect(String(wrong)).toContain(recipient);
    expect(String(wrong)).toContain(other.recipient);
  });

  test('a wrong passphrase, none, and an identity in its place are told apart', async () => {
    const byPassphrase = await ageSealer({ passphrase, workFactor: 2 });
    const sealed = await seal(Buffer.from('x'), byPassphrase);
    const wrong = { identities: [], passphrases: [new Secret('not this one')] };
    await expect(open(sealed, wrong, byPassphrase.record)).rejects.toMatchObject({ code: 'wrong-key' });
    await expect(open(sealed, keysOf(identity))).rejects.toMatchObject({
      code: 'key-missing',
      hint: expect.stringContaining('--passphrase-file FILE'),
    });
    const onlyPassphrase = { identities: [], passphrases: [passphrase] };
    await expect(open(await seal(Buffer.from('x')), onlyPassphrase)).rejects.toMatchObject({ code: 'key-missing' });
  });

  test('a malformed identity is refused at once, without being repeated', () => {
    const bad = `${identity.reveal().slice(0, -1)}b`;
    expect(() => openSealed({ scheme: 'age' }, keysOf(identity, new Secret(bad)))).toThrow(/^identity 2 of 2 /);
    expect(() => openSealed({ scheme: 'age' }, keysOf(new Secret(bad)))).not.toThrow(bad);
  });
});
