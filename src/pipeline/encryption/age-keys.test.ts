import { spawnSync } from 'node:child_process';
import { inspect } from 'node:util';
import { generateHybridIdentity, identityToRecipient } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import { PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import {
  fingerprintOfIdentity,
  fingerprintOfRecipient,
  formatIdentityFile,
  generateAgeIdentity,
  KEYS_MAX,
  parseIdentityFile,
  parseRecipientsFile,
} from './age-keys.ts';

function refusal(action: () => unknown): PgarkError {
  try {
    action();
  } catch (error) {
    if (error instanceof PgarkError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

const everythingOf = (error: PgarkError): string => `${inspect(error, { depth: 10 })} ${error.hint} ${error.stack}`;

describe('identity files', () => {
  test('age-keygen reads what is written, and finds the same recipient', async () => {
    const { identity, recipient } = await generateAgeIdentity();
    const file = formatIdentityFile(identity, recipient, new Date('2026-11-20T11:00:00.123Z'));
    expect(file.split('\n')[0]).toBe('# created: 2026-11-20T11:00:00Z');
    const derived = spawnSync('age-keygen', ['-y'], { input: file, encoding: 'utf8' });
    expect(derived.error).toBeUndefined();
    expect(derived.stdout.trim()).toBe(recipient);
  });

  test('a file that age-keygen wrote is read', async () => {
    const made = spawnSync('age-keygen', [], { encoding: 'utf8' });
    expect(made.error).toBeUndefined();
    const [identity] = parseIdentityFile(made.stdout);
    const recipient = /public key: (age1\S+)/.exec(made.stdout)?.[1];
    expect(await fingerprintOfIdentity(identity ?? new Secret(''))).toBe(recipient);
  });

  test('blank lines, comments, Windows line ends, indents and a byte order mark do not matter', async () => {
    const { identity } = await generateAgeIdentity();
    const hybrid = await generateHybridIdentity();
    const text = `\uFEFF# one\r\n\r\n  ${identity.reveal()}  \r\n#two\n${hybrid}`;
    expect(parseIdentityFile(text).map((found) => found.reveal())).toEqual([identity.reveal(), hybrid]);
  });

  test('a bad line is named by its number and never repeated', async () => {
    const { identity, recipient } = await generateAgeIdentity();
    const good = identity.reveal();
    const mistyped = good.slice(0, -1) + (good.endsWith('Q') ? 'P' : 'Q');
    for (const [bad, reason] of [
      [mistyped, 'checksum'],
      [good.slice(0, 40), 'checksum'],
      ['hunter2-in-the-wrong-file', 'no age identity'],
      ['AGE-PLUGIN-YUBIKEY-1QQPQ', 'no age identity'],
      [recipient, 'cannot'],
    ] as const) {
      const error = refusal(() => parseIdentityFile(`# mine\n${good}\n${bad}\n`));
      expect(error.code).toBe('key-invalid');
      expect(error.message).toContain('line 3');
      expect(error.message).toContain(reason === 'cannot' ? 'not decrypt' : reason);
      expect(everythingOf(error)).not.toContain(bad);
    }
  });

  test('an empty, an encrypted and an endless file are refused', async () => {
    const { identity } = await generateAgeIdentity();
    expect(refusal(() => parseIdentityFile('# nothing\n\n')).message).toContain('no key');
    expect(refusal(() => parseIdentityFile('age-encryption.org/v1\n-> scrypt')).message).toContain('itself encrypted');
    expect(refusal(() => parseIdentityFile(`${identity.reveal()}\n`.repeat(KEYS_MAX + 1))).code).toBe('key-invalid');
  });
});

describe('recipients files', () => {
  test('recipients are read, of both kinds', async () => {
    const { recipient } = await generateAgeIdentity();
    const hybrid = await identityToRecipient(await generateHybridIdentity());
    expect(parseRecipientsFile(`# ours\n${recipient}\n\n${hybrid}\n`)).toEqual([recipient, hybrid]);
  });

  test('a secret key among the recipients is refused without being repeated', async () => {
    const { identity, recipient } = await generateAgeIdentity();
    const error = refusal(() => parseRecipientsFile(`${recipient}\n${identity.reveal()}`));
    expect(error.message).toBe('line 2 of the recipients file is a secret key, not a recipient');
    expect(everythingOf(error)).not.toContain(identity.reveal());
  });

  test('a mistyped recipient and a key of SSH are refused', async () => {
    const { recipient } = await generateAgeIdentity();
    const mistyped = recipient.slice(0, -1) + (recipient.endsWith('q') ? 'p' : 'q');
    expect(refusal(() => parseRecipientsFile(mistyped)).message).toContain('damaged');
    expect(refusal(() => parseRecipientsFile('ssh-ed25519 AAAA me@home')).message).toContain('no age recipient');
  });
});

describe('fingerprints', () => {
  test('an X25519 recipient is its own fingerprint; a post-quantum one of 2,000 characters is shortened', async () => {
    const { identity, recipient } = await generateAgeIdentity();
    expect(fingerprintOfRecipient(recipient)).toBe(recipient);
    expect(await fingerprintOfIdentity(identity)).toBe(recipient);
    const hybrid = await generateHybridIdentity();
    const fingerprint = fingerprintOfRecipient(await identityToRecipient(hybrid));
    expect(fingerprint).toMatch(/^sha256:[0-9a-f]{32}$/);
    expect(await fingerprintOfIdentity(new Secret(hybrid))).toBe(fingerprint);
  });
});
