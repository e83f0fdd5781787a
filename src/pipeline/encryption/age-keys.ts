import { createHash } from 'node:crypto';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';

/** Keys in one file, and recipients of one backup, at the most: each costs a curve operation for every object. */
export const KEYS_MAX = 64;
/** Recipients up to this length stand in manifests as they are. X25519: 62 characters; post-quantum: 1,959. */
const READABLE_RECIPIENT_CHARACTERS_MAX = 100;

/** A new X25519 key pair. */
export async function generateAgeIdentity(): Promise<{ readonly identity: Secret; readonly recipient: string }> {
  const identity = await generateX25519Identity();
  return { identity: new Secret(identity), recipient: await identityToRecipient(identity) };
}

/** The text of an identity file as age-keygen writes it. It holds the secret: for a private file only. */
export function formatIdentityFile(identity: Secret, recipient: string, created: Date): string {
  const time = created.toISOString().replace(/\.\d+Z$/, 'Z');
  return `# created: ${time}\n# public key: ${recipient}\n${identity.reveal()}\n`;
}

/**
 * Identities of a file as age-keygen writes it: one on a line, blank lines and `#` comments between. Errors:
 * `key-invalid` naming the line's number, never what it says.
 */
export function parseIdentityFile(text: string): Secret[] {
  if (/^\uFEFF?(age-encryption\.org\/|-----BEGIN AGE ENCRYPTED FILE-----)/.test(text)) {
    throw new PgarkError('key-invalid', 'the identity file is itself encrypted', {
      hint: 'decrypt it first: age -d FILE',
    });
  }
  return parseLines(text, 'identity', (line, place) => {
    const identity = new Secret(line);
    checkIdentity(identity, place);
    return identity;
  });
}

/** Recipients of a file, one on a line, blank lines and `#` comments between. Errors: `key-invalid` naming the line. */
export function parseRecipientsFile(text: string): string[] {
  return parseLines(text, 'recipients', (line, place) => {
    checkRecipient(line, place);
    return line;
  });
}

function parseLines<T>(text: string, kind: string, parse: (line: string, place: string) => T): T[] {
  const found: T[] = [];
  text.split(/\r\n|\r|\n/).forEach((raw, index) => {
    // trim takes a byte order mark away too
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) return;
    found.push(parse(line, `line ${index + 1} of the ${kind} file`));
    if (found.length > KEYS_MAX) throw new PgarkError('key-invalid', `the ${kind} file has more than ${KEYS_MAX} keys`);
  });
  if (found.length === 0) throw new PgarkError('key-invalid', `the ${kind} file has no key in it`);
  return found;
}

/**
 * Refuses with `key-invalid` what is no age identity. `place` says where it came from, for the message. The package's
 * own error repeats the key and is therefore not kept as the cause.
 */
export function checkIdentity(identity: Secret, place: string): void {
  const text = identity.reveal();
  try {
    new Decrypter().addIdentity(text);
  } catch {
    if (text.startsWith('age1')) {
      throw new PgarkError('key-invalid', `${place} is an age recipient (age1…), which can encrypt but not decrypt`, {
        hint: 'give the identity (AGE-SECRET-KEY-…) that was made together with it',
      });
    }
    const damaged = text.startsWith('AGE-SECRET-KEY-');
    throw new PgarkError(
      'key-invalid',
      damaged
        ? `${place} looks like an age identity, but its checksum is wrong: a character is missing or mistyped`
        : `${place} is no age identity (AGE-SECRET-KEY-…)`,
      {
        hint: 'give an identity as pgark key generate or age-keygen writes it; keys of SSH and of plugins do not work',
      },
    );
  }
}

/** Refuses with `key-invalid` what is no age recipient, without repeating it: it might be a secret put there by mistake. */
export function checkRecipient(recipient: string, place: string): void {
  try {
    new Encrypter().addRecipient(recipient);
  } catch {
    if (/^AGE-SECRET-KEY-/i.test(recipient)) {
      throw new PgarkError('key-invalid', `${place} is a secret key, not a recipient`, {
        hint: 'give the public key that belongs to it (age1…; age-keygen -y FILE prints it), and keep the secret one away from here',
      });
    }
    const damaged = recipient.startsWith('age1');
    throw new PgarkError(
      'key-invalid',
      damaged
        ? `${place} looks like an age recipient, but it is damaged or of a kind that pgark does not know`
        : `${place} is no age recipient (age1…)`,
      {
        hint: 'give a recipient as pgark key generate or age-keygen prints it; keys of SSH and of plugins do not work',
      },
    );
  }
}

/** A recipient as manifests name it: itself, or `sha256:` and 32 hex digits of its hash where it is long. Public. */
export function fingerprintOfRecipient(recipient: string): string {
  if (recipient.length <= READABLE_RECIPIENT_CHARACTERS_MAX) return recipient;
  return `sha256:${createHash('sha256').update(recipient).digest('hex').slice(0, 32)}`;
}

/** What a manifest says of backups that this identity opens. Errors: `key-invalid`. */
export async function fingerprintOfIdentity(identity: Secret): Promise<string> {
  checkIdentity(identity, 'the identity');
  return fingerprintOfRecipient(await identityToRecipient(identity.reveal()));
}
