import { readFile } from 'node:fs/promises';
import { messageOf, PgarkError } from '../common/errors.ts';
import { Secret } from '../common/secret.ts';
import type { Config } from '../config/model.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import { text } from './option-text.ts';

/** Keys of the configuration, and those of the command line. */
export async function keysOf(config: Config, options: Readonly<Record<string, unknown>>): Promise<DecryptionKeys> {
  const configured = config.decryptionKeys;
  const identityFile = text(options.identity);
  const passphraseFile = text(options.passphraseFile);
  return {
    identities: [...(identityFile === undefined ? [] : await readIdentityFile(identityFile)), ...configured.identities],
    passphrases: [
      ...(passphraseFile === undefined ? [] : [new Secret((await readKeyFile(passphraseFile)).replace(/\r?\n$/, ''))]),
      ...configured.passphrases,
    ],
  };
}

async function readIdentityFile(path: string): Promise<readonly Secret[]> {
  const { parseIdentityFile } = await import('../pipeline/encryption/age-keys.ts');
  return parseIdentityFile(await readKeyFile(path));
}

async function readKeyFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new PgarkError('config-unreadable', `cannot read the key file ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
