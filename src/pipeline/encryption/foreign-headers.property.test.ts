import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { damagedBytes, refusedOr } from '../../../test/support/damage.ts';
import { bytesOf } from '../../../test/support/streams.ts';
import { Secret } from '../../common/secret.ts';
import { generateAgeIdentity } from './age-keys.ts';
import { ageSealer } from './age-sealer.ts';
import { detectEncryption, openSealed } from './open-sealed.ts';
import { opensslSealer } from './openssl-sealer.ts';

const plain = randomBytes(300);

async function* oneBlock(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

test('an age file that was changed, or is none, gives what was sealed or is refused with a sentence', async () => {
  const { identity, recipient } = await generateAgeIdentity();
  const sealer = await ageSealer({ recipients: [recipient, (await generateAgeIdentity()).recipient] });
  const sealed = await bytesOf(sealer.seal()(oneBlock(plain)));
  const keys = { identities: [identity], passphrases: [new Secret('correct horse')] };
  // A stanza that asks for more work than anybody has time for.
  const scrypt = Buffer.from(
    'age-encryption.org/v1\n-> scrypt rF0/NwblUHHTpgQgRpe5CQ 62\ngUjEymFKMVXQEKdMMHL24oYexjE3TIC0O0zGSqJ2aUY\n--- x\n',
  );
  await fc.assert(
    fc.asyncProperty(fc.oneof(damagedBytes(sealed), damagedBytes(scrypt), fc.constant(scrypt)), async (bytes) => {
      detectEncryption(bytes);
      const opened = await refusedOr(() => bytesOf(openSealed(sealer.record, keys)(oneBlock(bytes))));
      if (opened !== undefined) expect(opened.equals(plain)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test('a file of openssl that was changed, or is none, is opened or refused with a sentence', async () => {
  const passphrase = new Secret('the quick brown fox jumps over the lazy dog');
  const sealer = await opensslSealer({ passphrase });
  const sealed = await bytesOf(sealer.seal()(oneBlock(plain)));
  const keys = { identities: [], passphrases: [passphrase] };
  await fc.assert(
    fc.asyncProperty(damagedBytes(sealed), async (bytes) => {
      await refusedOr(() => bytesOf(openSealed(sealer.record, keys)(oneBlock(bytes))));
    }),
    { numRuns: 40 },
  );
});
