import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { environmentNames } from '../config/environment-names.ts';
import type { RecoveryRequest } from '../operations/restore-directory.ts';
import type { CommandRun } from './command.ts';

/** Beside this program: the same in a checkout and in an installed package. */
const PROGRAM = fileURLToPath(new URL('../../bin/pgark', import.meta.url));

const SECTIONS: ReadonlySet<string> = new Set(['Storage', 'Encryption', 'Process']);
/** What libraries read besides: keys and addresses of clouds, proxies, certificates, homes. */
const OF_LIBRARIES = /^(AWS_\w+|RCLONE_\w+|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|HOME|PATH|(HTTPS?|NO)_PROXY)$/i;

interface World {
  readonly options: Pick<CommandRun['options'], 'config'>;
  readonly world: Pick<CommandRun['world'], 'cwd' | 'environment'>;
}

/**
 * `pgark wal fetch` as the restore of this command line would run it: with its configuration, its storage, its keys. Secrets
 * are in its environment only, and names of files that hold them in its arguments.
 */
export function fetchProgramOf(
  { options, world: { cwd, environment } }: World,
  { storage, identity, passphraseFile }: Readonly<Record<string, unknown>>,
): RecoveryRequest['fetch'] {
  const path = (flag: string, value: unknown): readonly string[] =>
    typeof value === 'string' ? [flag, resolve(cwd, value)] : [];
  const known = new Set(
    environmentNames.flatMap(({ name, section }) => (SECTIONS.has(section) ? [name, `${name}_FILE`] : [])),
  );
  const kept = Object.entries(environment).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && (known.has(entry[0]) || OF_LIBRARIES.test(entry[0])),
  );
  return {
    commandFor: (verb, { source, systemIdentifier }, { upTo, refused }) => [
      PROGRAM,
      '--output',
      'ndjson',
      ...path('--config', options.config),
      'wal',
      verb,
      '--source',
      source,
      '--system-id',
      systemIdentifier,
      ...(typeof storage === 'string' ? ['--storage', storage] : []),
      ...path('--identity', identity),
      ...path('--passphrase-file', passphraseFile),
      '--up-to',
      upTo,
      ...(refused === undefined
        ? []
        : ['--refuse-tablespace-paths', '--replay-from', refused.from, '--replay-to', refused.to]),
    ],
    directory: cwd,
    environment: Object.fromEntries(kept),
  };
}
