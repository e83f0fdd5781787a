import type { Command } from 'commander';
import { systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import type { Config, EncryptionConfig, StorageConfig } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import { list } from '../operations/list.ts';
import { PASSPHRASE_FINGERPRINT } from '../pipeline/encryption/sealer.ts';
import type { GlobalsRecord } from '../repository/globals.ts';
import { type Manifest, seriesOf } from '../repository/manifest.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { pgarkVersion } from '../version.ts';
import { commandsByHand, stockCommand } from './by-hand.ts';
import { attempt, failureJson, failureOfStorages, type StorageFailure } from './attempt.ts';
import { action, type CliWorld } from './command.ts';
import { reportError } from './errors.ts';
import { addExamples } from './help.ts';
import { locationOf } from './storage-location.ts';
import { formatFacts, formatTime } from './table.ts';

/** What a storage holds, as far as somebody needs it who has nothing else left. */
interface StorageKit {
  readonly storage: StorageConfig;
  readonly location: string;
  readonly held: Held | PgarkError;
}

interface Held {
  /** The newest backup of each database and kind. */
  readonly newest: readonly Manifest[];
  readonly globals: readonly GlobalsRecord[];
}

export function registerRecoveryKit(key: Command, world: CliWorld): void {
  const command = key
    .command('recovery-kit')
    .summary('print what to keep in case everything else is lost')
    .description(
      'Prints what to keep, apart from the database and the storage, in case the machine that makes the backups is lost: where they are, which keys open them, and how they are restored, with pgark and without. It holds no secret.',
    );
  addExamples(command, [['pgark key recovery-kit > recovery-kit.txt', 'print it, and keep it with the key']]);
  action(command, world, async (run) => {
    const config = await run.config(['storage']);
    if (config.storages.size === 0) throw new PgarkError('config-missing', 'no storage is configured');
    const kits: StorageKit[] = [];
    const failures: StorageFailure[] = [];
    for (const storage of config.storages.values()) {
      let location = locationOf(storage);
      const tried = await attempt(storage.name, run, async () => {
        const store = await run.open(storage, config);
        location = store.location;
        return heldBy(store, run.context(config));
      });
      if ('error' in tried) failures.push(tried);
      kits.push({ storage, location, held: 'error' in tried ? tried.error : tried.value });
    }
    const made = systemClock.now();
    if (failures.length < kits.length) {
      run.result({ ...kitJson(config, kits, made), failures: failures.map(failureJson) }, () =>
        describeKit(config, kits, made),
      );
    }
    const failure = failureOfStorages(run, failures, kits.length);
    if (failure !== undefined) throw failure;
  });
}

async function heldBy(store: ObjectStore, context: OperationContext): Promise<Held> {
  const { backups, globals } = await list({ store, filter: {} }, context);
  const series = Map.groupBy(
    backups.map(({ manifest }) => manifest),
    seriesOf,
  );
  const bySource = Map.groupBy(globals, ({ source }) => source);
  return {
    newest: [...series.values()].flatMap((manifests) => manifests.at(-1) ?? []),
    globals: [...bySource.values()].flatMap((records) => records.at(-1) ?? []),
  };
}

/** Of all storages whose content is known. */
function newestIn(kits: readonly StorageKit[]): readonly Manifest[] {
  return kits.flatMap(({ held }) => (held instanceof PgarkError ? [] : held.newest));
}

/** What opens backups of one encryption; no secret of it. */
function openedBy(encryption: EncryptionConfig): string {
  if ('recipients' in encryption) return identityOf(encryption.recipients);
  return `the passphrase of ${encryption.scheme} that is configured as ${encryption.name}`;
}

/** In the words of `openedBy`, so that a key that is configured and recorded is told of once. */
function recordedKeys(manifests: readonly Manifest[]): readonly string[] {
  const keys = manifests.flatMap(({ encryption }) => {
    if (encryption === undefined || encryption.keyFingerprints.length === 0) return [];
    const { scheme, keyFingerprints } = encryption;
    const isPassphrase = scheme === 'openssl' || keyFingerprints.includes(PASSPHRASE_FINGERPRINT);
    return [isPassphrase ? `a passphrase (${scheme})` : identityOf(keyFingerprints)];
  });
  return [...new Set(keys)];
}

/** Any of the recipients opens what is encrypted to all of them. */
function identityOf(recipients: readonly string[]): string {
  return `the age identity (AGE-SECRET-KEY-1…) of ${recipients.toSorted().join(' or ')}`;
}

function accessTo(storage: StorageConfig): readonly (readonly [string, string | undefined])[] {
  switch (storage.type) {
    case 's3':
      return [
        ['endpoint', storage.endpoint ?? `AWS, region ${storage.region}`],
        ['bucket', storage.bucket],
        ['prefix', storage.prefix === '' ? '(none)' : storage.prefix],
        [
          'keep',
          'the login of the account by which access keys can be made anew; or an access key that may list and read',
        ],
      ];
    case 'file':
      return [['keep', 'the disk, and a copy of it elsewhere']];
    case 'rclone':
      return [['keep', `the configuration of rclone that knows ${storage.remote}`]];
    default:
      return storage satisfies never;
  }
}

function stepsOf(manifest: Manifest, location: string): readonly string[] {
  const folder = commandsByHand(manifest, location);
  if (folder !== undefined) return folder;
  return manifest.objects.flatMap((object) => [
    `copy ${location.replace(/\/$/, '')}/${object.key} into a folder, and there, into a new, empty database:`,
    stockCommand(manifest, object),
  ]);
}

function withPgark({ format, id }: Manifest): string {
  return format === 'physical' ? `pgark restore ${id} --to-dir NEW_DIRECTORY` : `pgark restore ${id} --to-db NEW_NAME`;
}

function describeKit(config: Config, kits: readonly StorageKit[], made: Date): string {
  const keys = [...config.encryption.values()].map(openedBy);
  const manifests = newestIn(kits);
  // Backups may be older than the present configuration, and keys others.
  const all = [...new Set([...keys, ...recordedKeys(manifests)])];
  const isAllKnown = kits.every(({ held }) => !(held instanceof PgarkError));
  const sections = kits.map(({ storage, location, held }) => {
    const facts = formatFacts([['storage', `${storage.name}: ${location}`], ...accessTo(storage)]);
    if (held instanceof PgarkError) {
      return `\n${facts}\n  What it holds, and which keys open it, is not known, print this again: ${held.message}\n`;
    }
    const { newest, globals } = held;
    const backups = newest.map((manifest) => {
      const title = `${manifest.source}/${manifest.database.name}, ${manifest.format}, ${formatTime(manifest.startedAt)}, PostgreSQL ${manifest.server.version}`;
      const byHand = stepsOf(manifest, location).map((step) => `    ${step}\n`);
      return `\n  ${title}\n  with pgark:     ${withPgark(manifest)}\n  without pgark:\n${byHand.join('')}`;
    });
    const roles = globals.map(
      (record) =>
        `\n  roles and tablespaces of ${record.source}: ${record.object.key}\n    ${stockCommand(record, record.object, 'psql -X -d postgres')}\n`,
    );
    const none = newest.length === 0 ? '\n  It holds no backup yet: print this again when it does.\n' : '';
    return `\n${facts}${none}${backups.join('')}${roles.join('')}`;
  });
  return (
    `RECOVERY KIT, written by pgark ${pgarkVersion} at ${formatTime(made.toISOString())}\n` +
    'Keep it where neither the databases nor the backups are, together with:\n' +
    (all.length === 0
      ? `- nothing to decrypt with: the backups ${isAllKnown ? '' : 'that could be read '}are not encrypted\n`
      : all.map((each) => `- ${each}: nothing opens the backups without it\n`).join('')) +
    '- access to the storage, as below\n' +
    'Everything else lies in the storage. The newest backups are named; newer ones are restored the same way, and\n' +
    'pgark list shows them. The format is described in docs/format.md, each step in docs/restore-by-hand.md.\n' +
    sections.join('')
  );
}

function kitJson(config: Config, kits: readonly StorageKit[], made: Date): Readonly<Record<string, unknown>> {
  return {
    made_at: made.toISOString(),
    pgark_version: pgarkVersion,
    keys: [...new Set([...[...config.encryption.values()].map(openedBy), ...recordedKeys(newestIn(kits))])],
    storages: kits.map(({ storage, location, held }) => ({
      name: storage.name,
      location,
      access: Object.fromEntries(accessTo(storage)),
      ...(held instanceof PgarkError ? { error: reportError(held) } : heldJson(held, location)),
    })),
  };
}

function heldJson({ newest, globals }: Held, location: string): Readonly<Record<string, unknown>> {
  return {
    backups: newest.map((manifest) => ({
      id: manifest.id,
      source: manifest.source,
      database: manifest.database.name,
      format: manifest.format,
      started_at: manifest.startedAt,
      with_pgark: withPgark(manifest),
      by_hand: stepsOf(manifest, location),
    })),
    globals: globals.map(({ id, source, object }) => ({ id, source, key: object.key })),
  };
}
