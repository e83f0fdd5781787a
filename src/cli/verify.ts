import type { Command } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import { systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import type { Verification, VerifiedBackup, VerifyDepth } from '../operations/verify.ts';
import { Teller } from '../service/tell.ts';
import { action, chooseStorage, type CliWorld } from './command.ts';
import { reportError } from './errors.ts';
import { addExamples } from './help.ts';
import { filterFor } from './list.ts';
import { keysOf } from './restore.ts';
import { formatTable } from './table.ts';
import { tellWorld } from './telling.ts';
import { sizesOf } from '../repository/manifest.ts';

export function registerVerify(program: Command, world: CliWorld): void {
  const command = program
    .command('verify')
    .summary('check that backups are whole')
    .description(
      'Checks that the data of every backup is there with its size, and reads the newest of each database to the end: checksum of what is stored, decryption, decompression, checksum of the SQL text. With BACKUP it reads that one.',
    )
    .argument('[backup]', 'latest, an id or a file name (default: all)')
    .option('--deep', 'read every backup to the end')
    .option('--database <name>', 'only backups of this source or database')
    .option('--identity <file>', 'age identity file to decrypt with')
    .option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with')
    .option('--storage <name>', 'the storage to look in (needed if there are several)');
  addExamples(command, [
    ['pgark verify', 'the newest of each database to the end, the others by size'],
    ['pgark verify latest --identity key.txt', 'one backup, with a key that is kept elsewhere'],
  ]);
  action(command, world, async (run, [name], options) => {
    const config = await run.config(['storage']);
    const storage = chooseStorage(config, typeof options.storage === 'string' ? options.storage : undefined);
    const selector =
      name === undefined
        ? undefined
        : name === 'latest'
          ? ({ kind: 'latest' } as const)
          : ({ kind: 'name', name } as const);
    const { isOfKeys, verify } = await import('../operations/verify.ts');
    const { backups: verified, damaged } = await verify(
      {
        store: await run.open(storage, config),
        filter: filterFor(config, typeof options.database === 'string' ? options.database : undefined),
        selector,
        deep: options.deep === true,
        keys: await keysOf(config, options),
        mustOpen: options.identity !== undefined || options.passphraseFile !== undefined,
      },
      run.context(config),
    );
    await new Teller(tellWorld(run, config)).verification(config, {
      storage: storage.name,
      endedAt: systemClock.now(),
      backups: verified,
      damaged,
      complete: selector === undefined,
    });
    run.result(
      {
        backups: verified.map(verifiedJson),
        damaged: damaged.map(({ key, error }) => ({ key, error: reportError(error) })),
      },
      () => describe(verified, damaged),
    );
    const failed = verified.filter((each) => each.failure !== undefined);
    const failures = [...failed.flatMap((each) => each.failure ?? []), ...damaged.map((each) => each.error)];
    const [first] = failures;
    const total = verified.length + damaged.length;
    if (first === undefined) return;
    if (total === 1 || failures.every(isOfKeys)) throw first;
    throw new PgarkError('corrupt', `${failures.length} of ${total} backups are damaged or cannot be read`, {
      hint: 'make a new backup now; the table says which ones are still whole, and what is wrong with the others',
    });
  });
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

function describe(verified: readonly VerifiedBackup[], damaged: Verification['damaged']): string {
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
