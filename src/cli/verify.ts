import type { Command } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import { systemClock } from '../common/clock.ts';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import type { BackupSelector } from '../operations/find-backup.ts';
import type { Verification, VerifiedBackup, VerifyDepth, VerifyRequest } from '../operations/verify.ts';
import { hasKeysFor } from '../service/proof-jobs.ts';
import { Teller } from '../service/tell.ts';
import { action, chooseStorage, type CliWorld, type CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { filterFor } from './list.ts';
import { keysOf } from './given-keys.ts';
import { text } from './option-text.ts';
import { formatTable } from './table.ts';
import { tellWorld } from './telling.ts';
import { sizesOf } from '../repository/manifest.ts';

export function registerVerify(program: Command, world: CliWorld): void {
  const command = program
    .command('verify')
    .summary('check that backups are whole')
    .description(
      'Checks that the data of every backup is there with its size, and reads the newest of each database to the end: checksum of what is stored, decryption, decompression, checksum of the SQL text. With BACKUP it reads that one, wherever it lies.',
    )
    .argument('[backup]', 'latest, an id or a file name (default: all)')
    .option('--deep', 'read every backup to the end')
    .option('--database <name>', 'only backups of this source or database')
    .option('--identity <file>', 'age identity file to decrypt with')
    .option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with')
    .option('--storage <name>', 'only this storage (default: all)');
  addExamples(command, [
    ['pgark verify', 'the newest of each database to the end, the others by size'],
    ['pgark verify latest --identity key.txt', 'one backup, with a key that is kept elsewhere'],
  ]);
  action(command, world, async (run, [name], options) => {
    const config = await run.config(['storage']);
    const named = text(options['storage']);
    const storages = named === undefined ? [...config.storages.values()] : [chooseStorage(config, named)];
    const request = await requestOf(config, name, options);
    const looks: Look[] = [];
    for (const storage of storages) looks.push(await verifyIn(storage, request, run, config));
    const { isOfKeys } = await import('../operations/verify.ts');
    const failure = failureOf(looks, isOfKeys);
    if (failure !== undefined && looks.every(({ verification }) => verification === undefined)) throw failure;
    const json = {
      storages: looks.map(lookJson),
      backups: looks.flatMap(({ storage, verification }) =>
        (verification?.backups ?? []).map((each) => ({ ...verifiedJson(each), storage: storage.name })),
      ),
      damaged: looks.flatMap(({ storage, verification }) =>
        (verification?.damaged ?? []).map(({ key, error }) => ({
          key,
          storage: storage.name,
          error: reportError(error),
        })),
      ),
    };
    run.result(
      json,
      () => looks.map((look) => describe(look, looks.length > 1)).join('\n'),
      () => [
        ...jsonLines('storage', json.storages),
        ...jsonLines('backup', json.backups),
        ...jsonLines('damaged', json.damaged),
      ],
    );
    if (failure !== undefined) throw failure;
  });
}

type Request = Omit<VerifyRequest, 'store'>;

/** What came of one storage. */
interface Look {
  readonly storage: StorageConfig;
  readonly location: string | undefined;
  readonly verification: Verification | undefined;
  /** Why there is no verification. */
  readonly error: PgarkError | undefined;
}

async function requestOf(
  config: Config,
  name: string | undefined,
  options: Readonly<Record<string, unknown>>,
): Promise<Request> {
  const selector: BackupSelector | undefined =
    name === undefined ? undefined : name === 'latest' ? { kind: 'latest' } : { kind: 'name', name };
  return {
    filter: filterFor(config, text(options['database'])),
    selector,
    deep: options['deep'] === true,
    keys: await keysOf(config, options),
    mustOpen: options['identity'] !== undefined || options['passphraseFile'] !== undefined,
    ownSources:
      config.databases.size === 0
        ? undefined
        : new Set(
            [...config.databases.values()].filter((source) => hasKeysFor(config, source)).map((each) => each.name),
          ),
  };
}

/** A storage that is away does not keep the others from being verified. */
async function verifyIn(storage: StorageConfig, request: Request, run: CommandRun, config: Config): Promise<Look> {
  const { verify } = await import('../operations/verify.ts');
  let location: string | undefined;
  try {
    const store = await run.open(storage, config);
    location = store.location;
    const verification = await verify({ store, ...request }, run.context(config));
    await new Teller(tellWorld(run, config)).verification(config, {
      storage: storage.name,
      endedAt: systemClock.now(),
      ...verification,
      complete: request.selector === undefined,
    });
    return { storage, location, verification, error: undefined };
  } catch (thrown) {
    run.world.signal.throwIfAborted();
    return { storage, location, verification: undefined, error: asPgarkError(thrown) };
  }
}

/** What says of damage comes before what says that a storage was not looked at. */
function failureOf(looks: readonly Look[], isOfKeys: (error: PgarkError) => boolean): PgarkError | undefined {
  const verifications = looks.flatMap(({ verification }) => verification ?? []);
  const failed = verifications.flatMap(({ backups, damaged }) => [
    ...backups.flatMap(({ manifest, failure }) =>
      failure === undefined ? [] : [{ name: manifest.id, error: failure }],
    ),
    ...damaged.map(({ key, error }) => ({ name: key, error })),
  ]);
  const failures = failed.map(({ error }) => error);
  const total = verifications.reduce((sum, { backups, damaged }) => sum + backups.length + damaged.length, 0);
  const [first] = failures;
  if (first !== undefined) {
    if (total === 1 || failures.every(isOfKeys)) return first;
    // What the storage does not give, or no key opens, may be whole.
    if (failures.every((each) => isOfKeys(each) || each.code.startsWith('store-'))) {
      const what = `${failures.length} of ${total} backups could not be read: ${describeErrors(failed)}`;
      return new PgarkError('partial', what, { hint: first.hint, cause: first });
    }
    return new PgarkError('corrupt', `${failures.length} of ${total} backups are damaged or cannot be read`, {
      hint: 'make a new backup now; the table says which ones are still whole, and what is wrong with the others',
    });
  }
  // A backup that is asked for need not lie in every storage.
  const absent = looks.flatMap(({ error }) => (error?.code === 'backup-not-found' ? [error] : []));
  const errors = looks.flatMap(({ storage, error }) =>
    error === undefined || error.code === 'backup-not-found' ? [] : [{ name: storage.name, error }],
  );
  const [only, another] = errors;
  if (only === undefined) return absent.length === looks.length ? absent[0] : undefined;
  if (looks.length === 1) return only.error;
  const hint = another === undefined ? { hint: only.error.hint } : {};
  if (verifications.length > 0) {
    const what = `${errors.length} of ${looks.length} storages could not be verified: ${describeErrors(errors)}`;
    return new PgarkError('partial', what, { ...hint, cause: only.error });
  }
  // What whoever asks has to say better, holds for all storages.
  const unclear = errors.find(({ error }) => error.code === 'usage');
  if (unclear !== undefined) return unclear.error;
  const all = looks.flatMap(({ storage, error }) => (error === undefined ? [] : [{ name: storage.name, error }]));
  const what = `no storage could be verified: ${describeErrors(all)}`;
  return new PgarkError(only.error.code, what, { ...hint, cause: only.error });
}

function describeErrors(errors: readonly { readonly name: string; readonly error: PgarkError }[]): string {
  return errors.map(({ name, error }) => `${name}: ${error.message}`).join('; ');
}

function lookJson({ storage, location, verification, error }: Look): Record<string, unknown> {
  const state = verification !== undefined ? 'verified' : error?.code === 'backup-not-found' ? 'without' : 'failed';
  return { storage: storage.name, location, state, ...(state === 'failed' && error && { error: reportError(error) }) };
}

function verifiedJson({ manifest, depth, failure }: VerifiedBackup): Record<string, unknown> {
  return {
    id: manifest.id,
    source: manifest.source,
    database: manifest.database.name,
    depth,
    passed: failure === undefined,
    ...(failure === undefined ? {} : { error: reportError(failure) }),
  };
}

const CHECKED: Readonly<Record<VerifyDepth, string>> = {
  present: 'size',
  stored: 'stored bytes; no key',
  read: 'every byte',
};

function describe({ storage, location, verification, error }: Look, several: boolean): string {
  const head = several ? `${storage.name}${location === undefined ? '' : `: ${location}`}\n` : '';
  return head + (verification === undefined ? `${error?.message ?? ''}\n` : describeVerification(verification));
}

function describeVerification({ backups: verified, damaged }: Verification): string {
  const unreadable = damaged.map(({ error }) => `${error.message}\n`).join('');
  if (verified.length === 0)
    return unreadable !== '' ? unreadable : 'there is no backup to verify; make the first one: pgark backup\n';
  const table = formatTable(
    [
      { title: 'ID' },
      { title: 'DATABASE' },
      { title: 'STORED', align: 'right' },
      { title: 'CHECKED' },
      { title: 'RESULT' },
    ],
    verified.map(({ manifest, depth, failure }) => [
      manifest.id,
      manifest.database.name,
      formatBytes(sizesOf(manifest).storedBytes),
      CHECKED[depth],
      failure === undefined ? 'ok' : 'FAILED',
    ]),
  );
  return table + unreadable;
}
