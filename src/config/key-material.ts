import type { Encrypter } from 'age-encryption';

/** Keys of fewer characters are refused for openssl: its key derivation is cheap to try. */
export const OPENSSL_PASSPHRASE_CHARACTERS_MIN = 32;

type KeyMaterial =
  | { readonly kind: 'recipients'; readonly recipients: readonly string[] }
  | { readonly kind: 'identities'; readonly identities: readonly string[]; readonly recipients: readonly string[] }
  | { readonly kind: 'passphrase'; readonly passphrase: string };

/**
 * Finds out what a key is: public keys of age (separated by white space or commas), the content of an age identity file
 * (with its comments), or else a passphrase. Returns a sentence on what is wrong instead for a damaged key; it never
 * quotes the key. Source: the age file format, C2SP age.md, and age-keygen(1) for identity files.
 */
export async function readKeyMaterial(text: string): Promise<KeyMaterial | string> {
  const words = text
    .split('\n')
    .filter((line) => !line.trim().startsWith('#'))
    .flatMap((line) => line.split(/[\s,]+/))
    .filter((word) => word !== '');
  if (words.some((word) => word.startsWith('AGE-SECRET-KEY-'))) {
    try {
      const { identityToRecipient } = await import('age-encryption');
      const recipients = await Promise.all(words.map((word) => identityToRecipient(word)));
      return { kind: 'identities', identities: words, recipients };
    } catch {
      return 'holds an age identity that is not valid: it is damaged or not complete';
    }
  }
  if (words.some((word) => word.startsWith('age1'))) {
    const { Encrypter } = await import('age-encryption');
    const broken = words.findIndex((word) => !isRecipient(word, new Encrypter()));
    if (broken >= 0) return `holds a public key (number ${broken + 1}) that is no valid age recipient`;
    return { kind: 'recipients', recipients: words };
  }
  if (words.some((word) => /^(ssh-|-----BEGIN)/.test(word))) {
    return 'holds an SSH key or an encrypted file; pgark takes age keys as pgark key generate writes them';
  }
  return { kind: 'passphrase', passphrase: text };
}

function isRecipient(word: string, encrypter: Encrypter): boolean {
  try {
    encrypter.addRecipient(word);
    return true;
  } catch {
    return false;
  }
}
