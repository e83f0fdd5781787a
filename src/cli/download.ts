import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import type { CompressionAlgorithm } from '../common/compression-levels.ts';
import { PgarkError } from '../common/errors.ts';
import { finding, ruleOf } from '../operations/find-across.ts';
import type { BackupSelector } from '../operations/find-backup.ts';
import { action, type CliWorld } from './command.ts';
import { storageWith } from './find-storage.ts';
import { addExamples } from './help.ts';
import { manifestJson } from './json.ts';
import { filterFor } from './list.ts';
import { keysOf } from './given-keys.ts';

const COMPRESSIONS: readonly CompressionAlgorithm[] = ['none', 'gzip', 'zstd'];

export function registerDownload(program: Command, world: CliWorld): void {
  const command = program
    .command('download')
    .summary('write a backup into a folder')
    .description(
      'Writes a backup into a folder, decrypted and checked, as the files that pg_restore or psql restore without pgark; a physical one as pg_basebackup writes it in tar format.',
    )
    .argument('<backup>', 'latest, an id or a file name')
    .argument('<folder>', 'a folder that is empty or does not exist yet')
    .option('--database <name>', 'of this source or database, where the storage holds several')
    .addOption(
      new Option(
        '--compression <algorithm>',
        'of what is written (default: as it is stored, if pg_restore of the backup’s own version reads that)',
      ).choices(COMPRESSIONS),
    )
    .option('--identity <file>', 'age identity file to decrypt with')
    .option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with')
    .option('--storage <name>', 'the storage to look in (default: the one of all that has it, or the newest)');
  addExamples(command, [['pgark download latest ./shop', 'and then: pg_restore -j 4 -d NEW_DATABASE ./shop']]);
  action(command, world, async (run, [name, given], options) => {
    if (name === undefined || given === undefined) {
      throw new PgarkError('usage', 'download needs to know which backup and which folder');
    }
    const config = await run.config(['storage']);
    const selector: BackupSelector = name === 'latest' ? { kind: 'latest' } : { kind: 'name', name };
    const filter = filterFor(config, typeof options.database === 'string' ? options.database : undefined);
    const { store, json } = await storageWith(run, config, options, {
      find: finding(selector, filter),
      rule: ruleOf(selector),
    });
    const { download } = await import('../operations/download.ts');
    const outcome = await download(
      {
        store,
        selector,
        filter,
        keys: await keysOf(config, options),
        compression: COMPRESSIONS.find((each) => each === options.compression),
        folder: resolve(world.cwd, given),
      },
      run.context(config),
    );
    const { manifest, folder, files, bytes, command: restoreCommand } = outcome;
    run.result(
      { ...json, backup: manifestJson(manifest), folder, files, bytes, command: restoreCommand },
      () =>
        `downloaded ${manifest.id} into ${folder}: ${files} files, ${formatBytes(bytes)}\n` +
        `  restore  ${manifest.format === 'physical' ? '' : 'createdb -T template0 NEW_DATABASE && '}${restoreCommand}\n`,
    );
  });
}
