import { createCipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { armor, Encrypter, Stanza } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../common/bytes.ts';
import { isPgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import { generateAgeIdentity } from './age-keys.ts';
import { PayloadOpener } from './age-payload.ts';
import { ageSealer } from './age-sealer.ts';
import { scryptRecipient } from './age-scrypt.ts';
import { openSealed } from './open-sealed.ts';

const CHUNK = 65_536;
const SEALED_CHUNK = CHUNK + 16;

const { identity, recipient } = await generateAgeIdentity();
const sealer = await ageSealer({ recipients: [recipient] });
const passphrase = new Secret('correct horse');
const keys = { identities: [identity], passphrases: [passphrase] };

async function* oneBlock(bytes: Uint8Array): ByteStream {
  yield bytes;
}

async function collect(stream: ByteStream): Promise<Buffer> {
  const blocks: Uint8Array[] = [];
  for await (const block of stream) blocks.push(block);
  return Buffer.concat(blocks);
}

function seal(plain: Uint8Array): Promise<Buffer> {
  return collect(sealer.seal()(oneBlock(plain)));
}

/** The code of the refusal, and how much came out before it. `opened` if there was none. */
async function outcomeOf(sealed: Uint8Array, record = sealer.record): Promise<{ code: string; plain: Buffer }> {
  const blocks: Uint8Array[] = [];
  try {
    for await (const block of openSealed(record, keys)(oneBlock(sealed))) blocks.push(block);
  } catch (error) {
    if (!isPgarkError(error)) throw error;
    return { code: error.code, plain: Buffer.concat(blocks) };
  }
  return { code: 'opened', plain: Buffer.concat(blocks) };
}

describe('damaged age files', () => {
  test('a file cut off at any byte is refused as corrupt', async () => {
    const sealed = await seal(randomBytes(60));
    for (let bytes = 0; bytes < sealed.length; bytes += 1) {
      expect(await outcomeOf(sealed.subarray(0, bytes)), `${bytes} bytes`).toMatchObject({ code: 'corrupt' });
    }
  });

  test('a file cut off near the edge of a chunk is refused, and never more came out than the chunks before', async () => {
    const plain = randomBytes(3 * CHUNK);
    const sealed = await seal(plain);
    const payloadStart = sealed.length - 3 * SEALED_CHUNK;
    for (const chunk of [0, 1, 2, 3]) {
      for (const distance of [-17, -16, -1, 0, 1, 15, 16, 17]) {
        const bytes = payloadStart + chunk * SEALED_CHUNK + distance;
        if (bytes >= sealed.length) continue;
        const outcome = await outcomeOf(sealed.subarray(0, bytes));
        expect(outcome.code, `chunk ${chunk}, ${distance}`).toBe('corrupt');
        expect(outcome.plain.equals(plain.subarray(0, outcome.plain.length))).toBe(true);
        expect(outcome.plain.length).toBeLessThanOrEqual(Math.max(0, chunk) * CHUNK);
      }
    }
  });

  test('a bit flipped at any place is refused; with the record at hand, never taken for a wrong key', async () => {
    const sealed = await seal(randomBytes(60));
    for (let offset = 0; offset < sealed.length; offset += 1) {
      for (const bit of [0x01, 0x20, 0x80]) {
        const flipped = Buffer.from(sealed);
        flipped[offset] = (flipped[offset] ?? 0) ^ bit;
        const { code, plain } = await outcomeOf(flipped);
        expect(plain.length).toBe(0);
        const inVersion = offset === 'age-encryption.org/v'.length;
        expect(inVersion ? ['corrupt', 'encryption-unsupported'] : ['corrupt'], `byte ${offset}`).toContain(code);
      }
    }
  });

  test('chunks that were swapped, repeated, left out or appended are refused', async () => {
    const sealed = await seal(randomBytes(3 * CHUNK + 500));
    const start = sealed.length - 3 * SEALED_CHUNK - 516;
    const head = sealed.subarray(0, start);
    const [a, b, c] = [0, 1, 2].map((n) => sealed.subarray(start + n * SEALED_CHUNK, start + (n + 1) * SEALED_CHUNK));
    const last = sealed.subarray(start + 3 * SEALED_CHUNK);
    if (a === undefined || b === undefined || c === undefined) throw new Error('three whole chunks');
    expect((await outcomeOf(Buffer.concat([head, a, b, c, last]))).code).toBe('opened');
    for (const parts of [
      [b, a, c, last],
      [a, a, b, c, last],
      [a, c, last],
      [a, b, c],
      [a, b, last],
      [last],
      [a, b, c, last, last],
      [a, b, c, last, randomBytes(1)],
      [a, b, c, last, randomBytes(SEALED_CHUNK)],
      [],
    ]) {
      expect((await outcomeOf(Buffer.concat([head, ...parts]))).code).toBe('corrupt');
    }
  });

  test('the payload of one file behind the header of another is refused', async () => {
    const [one, two] = [await seal(randomBytes(100)), await seal(randomBytes(100))];
    const payloadBytes = 16 + 100 + 16;
    const mixed = Buffer.concat([one.subarray(0, -payloadBytes), two.subarray(-payloadBytes)]);
    expect((await outcomeOf(mixed)).code).toBe('corrupt');
  });

  test('a header without an end is given up, not gathered for ever', async () => {
    const endless = async function* (): ByteStream {
      yield Buffer.from('age-encryption.org/v1\n');
      for (;;) yield Buffer.alloc(65_536, '-> X25519 abc\n');
    };
    await expect(collect(openSealed(sealer.record, keys)(endless()))).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('armored files and later versions are refused by name', async () => {
    const armored = Buffer.from(armor.encode(await seal(Buffer.from('x'))));
    expect((await outcomeOf(armored)).code).toBe('encryption-unsupported');
    const later = Buffer.from('age-encryption.org/v2\n-> X25519 abc\n');
    expect((await outcomeOf(later)).code).toBe('encryption-unsupported');
    expect((await outcomeOf(Buffer.from('--\n-- PostgreSQL database dump\n'))).code).toBe('corrupt');
  });
});

describe('passphrase headers', () => {
  async function sealedByPassphrase(): Promise<string> {
    const byPassphrase = await ageSealer({ passphrase, workFactor: 2 });
    return (await collect(byPassphrase.seal()(oneBlock(Buffer.from('x'))))).toString('latin1');
  }

  test('a header that asks for more work than bounds allow is refused without doing it', async () => {
    const sealed = await sealedByPassphrase();
    for (const workFactor of ['21', '30', '63', '9'.repeat(400)]) {
      const bomb = Buffer.from(sealed.replace(/^(-> scrypt \S+) 2$/m, `$1 ${workFactor}`), 'latin1');
      expect((await outcomeOf(bomb)).code).toBe('encryption-unsupported');
    }
  });

  /** A whole file, its header's MAC right, whose one scrypt stanza has the arguments changed. */
  async function withArguments(change: (salt: string, workFactor: string) => string[]): Promise<Uint8Array> {
    const encrypter = new Encrypter();
    encrypter.addRecipient({
      async wrapFileKey(fileKey) {
        const [stanza] = await scryptRecipient(Buffer.from(passphrase.reveal()), 2).wrapFileKey(fileKey);
        if (stanza === undefined) throw new Error('one stanza');
        const [kind = '', salt = '', workFactor = ''] = stanza.args;
        return [new Stanza([kind, ...change(salt, workFactor)], stanza.body)];
      },
    });
    return encrypter.encrypt('x');
  }

  test('a salt or work factor that is not written as the format says is refused', async () => {
    expect((await outcomeOf(await withArguments((salt, workFactor) => [salt, workFactor]))).code).toBe('opened');
    for (const change of [
      (salt: string) => [salt, '02'],
      (salt: string) => [salt, '+2'],
      (salt: string) => [salt, '2', '2'],
      (salt: string) => [salt],
      (salt: string) => [`${salt}==`, '2'],
      // The last of 22 characters has four bits that mean nothing, and must be zero.
      (salt: string) => [`${salt.slice(0, -1)}${String.fromCharCode(salt.charCodeAt(21) + 1)}`, '2'],
    ]) {
      expect((await outcomeOf(await withArguments(change))).code).toBe('corrupt');
    }
  });

  test('a passphrase beside recipients is refused: whoever knows it could pass data off as a recipient’s', async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient(recipient);
    encrypter.addRecipient(scryptRecipient(Buffer.from(passphrase.reveal()), 2));
    expect((await outcomeOf(await encrypter.encrypt('x'))).code).toBe('corrupt');
  });
});

describe('payloads', () => {
  const fileKey = randomBytes(16);
  const nonce = randomBytes(16);
  const key = Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32));

  /** One chunk, made step by step as the specification says. */
  function chunk(index: number, last: boolean, plain: Uint8Array): Buffer {
    const chunkNonce = Buffer.from([...Buffer.alloc(10), index, last ? 1 : 0]);
    const cipher = createCipheriv('chacha20-poly1305', key, chunkNonce, { authTagLength: 16 });
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  function opened(...chunks: readonly Buffer[]): Buffer {
    const opener = new PayloadOpener(fileKey, nonce);
    return Buffer.concat([opener.push(Buffer.concat(chunks)), opener.end()]);
  }

  test('an empty last chunk stands for an empty file only', () => {
    expect(opened(chunk(0, true, Buffer.alloc(0))).length).toBe(0);
    expect(() => opened(chunk(0, false, Buffer.alloc(CHUNK)), chunk(1, true, Buffer.alloc(0)))).toThrow('damaged');
    expect(opened(chunk(0, false, Buffer.alloc(CHUNK)), chunk(1, true, Buffer.alloc(1))).length).toBe(CHUNK + 1);
  });

  test('a missing end is told apart from damage', () => {
    const whole = chunk(0, false, Buffer.alloc(CHUNK));
    expect(() => opened(whole)).toThrow('cut off in chunk 1');
    expect(() => opened(whole, chunk(1, true, Buffer.alloc(9)).subarray(0, 20))).toThrow('damaged in chunk 2');
    expect(() => opened(chunk(0, true, Buffer.alloc(CHUNK)), chunk(1, true, Buffer.alloc(1)))).toThrow(
      'damaged in chunk 1',
    );
    expect(() => opened(chunk(0, false, Buffer.alloc(10)))).toThrow('cut off');
  });
});
