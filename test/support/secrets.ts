import { inject } from 'vitest';
import type { PostgresFacts, S3Facts } from './facts.ts';

/** Shorter ones would be found in anything. */
const SECRET_CHARACTERS_MIN = 8;
const SECRET_NAME = /(PASSWORD|SECRET|PASSPHRASE|TOKEN|ENCRYPTION_KEY|SECRET_KEY|HEADERS)(_KEY)?$/;

/** What in an environment is nobody's business, by where it stands: passwords, keys, and those within URLs. */
function secretsOf(env: Readonly<Record<string, string | undefined>>): Map<string, string> {
  const secrets = new Map<string, string>();
  const add = (value: string, name: string): void => {
    if (value.length >= SECRET_CHARACTERS_MIN) secrets.set(value, name);
  };
  for (const [name, value = ''] of Object.entries(env)) {
    // The public half of an age key is meant to be seen.
    if (SECRET_NAME.test(name) && !value.startsWith('age1')) add(value, name);
    const password = URL.parse(value)?.password ?? '';
    add(password, `the password in ${name}`);
    if (!/%(?![0-9a-f]{2})/i.test(password)) add(decodeURIComponent(password), `the password in ${name}`);
  }
  return secrets;
}

/** The passwords of the servers that all tests work with; those of a project without servers are none. */
function secretsOfServers(): Readonly<Record<string, string | undefined>> {
  const postgres = inject('postgres') as PostgresFacts | undefined;
  const s3 = inject('s3') as S3Facts | undefined;
  return { TEST_SERVER_PASSWORD: postgres?.password, TEST_STORE_SECRET: s3?.secretKey };
}

/**
 * Throws if a text that others may read holds one of the secrets that pgark was given: whatever it prints, logs, records
 * and sends in any test comes past here. Only what the secret is called is told.
 */
export function expectNoSecrets(
  text: string,
  where: string,
  env: Readonly<Record<string, string | undefined>> = {},
): void {
  for (const [secret, name] of secretsOf({ ...secretsOfServers(), ...env })) {
    if (text.includes(secret)) throw new Error(`a secret shows in ${where}: ${name}`);
  }
}

/** State that names no secret of anybody's, but is written from all that pgark knows. */
const STATE = /^(.*\/)?\.pgark\/(runs|logs|leases|schedule|intents|deleted|globals|proofs|backups|notifications\.json)/;
const OBJECTS_READ_MAX = 60;

/** Looks through what pgark has written about itself into a storage: run records, logs, leases, manifests. */
export async function expectNoSecretsIn(storage: {
  keys(): Promise<readonly string[]>;
  get(key: string): Promise<Uint8Array>;
}): Promise<void> {
  // A directory that pgark was to make may not be there.
  const keys = await storage.keys().catch(() => []);
  const state = keys.filter((key) => STATE.test(key) && !key.endsWith('.gz'));
  for (const key of state.slice(-OBJECTS_READ_MAX)) {
    // A test may have taken it away, or made it unreadable.
    const content = await storage.get(key).catch(() => undefined);
    if (content !== undefined) expectNoSecrets(Buffer.from(content).toString('latin1'), key);
  }
}
