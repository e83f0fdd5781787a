import type { Command } from 'commander';
import { formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import {
  type DirectoryRestoreOutcome,
  type DirectoryRestoreRequest,
  parseTablespaceMapping,
  restoreDirectory,
  type TablespaceMapping,
} from '../operations/restore-directory.ts';
import { describeStop, recoveryJson, startedJson } from '../operations/recovery/describe-plan.ts';
import type { CommandRun } from './command.ts';
import { fetchProgramOf } from './fetch-program.ts';
import { manifestJson } from './json.ts';
import { OPTIONS_OF_RECOVERY, recoveryOf, serverOptionsOf } from './recovery-options.ts';

type Options = Readonly<Record<string, unknown>>;

/** Options of a restore that have a meaning without a database to load into. */
const FITTING: ReadonlySet<string> = new Set([
  ...OPTIONS_OF_RECOVERY,
  'at',
  'verifyFirst',
  'toDir',
  'tablespaceMapping',
  'replaceUnfinished',
  'identity',
  'passphraseFile',
  'storage',
  'hooks',
  'plan',
]);

/** Error: `usage` for an option of the command line that says how to load a database. */
export function refuseOptionsOfDatabases(command: Command): void {
  const misfit = command.options.find((option) => {
    const name = option.attributeName();
    return command.getOptionValueSource(name) === 'cli' && !FITTING.has(name);
  });
  if (misfit === undefined) return;
  throw new PgarkError('usage', `${misfit.long ?? misfit.flags} is for databases, and does not go with --to-dir`);
}

/** Error: `usage` for an option that has a meaning only for a directory. */
export function refuseOptionsOfDirectories(options: Options): void {
  const misfit = ['tablespaceMapping', 'replaceUnfinished', ...OPTIONS_OF_RECOVERY].find(
    (name) => options[name] !== undefined,
  );
  if (misfit === undefined) return;
  const flag = misfit.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new PgarkError('usage', `--${flag} goes with --to-dir`);
}

/** `pgark restore … --to-dir DIR`. */
export async function restoreIntoDirectory(
  run: CommandRun,
  config: Config,
  found: Pick<DirectoryRestoreRequest, 'store' | 'filter' | 'selector' | 'keys' | 'around'>,
  directory: string,
  options: Options,
): Promise<DirectoryRestoreOutcome> {
  if (directory === '') {
    throw new PgarkError('usage', '--to-dir needs the path of a directory, and was given an empty one');
  }
  const recovery = recoveryOf(options, fetchProgramOf(run, options));
  const request = {
    ...found,
    directory,
    mappings: mappingsOf(options),
    replacesUnfinished: options.replaceUnfinished === true,
    planOnly: options.plan === true,
    recovery,
    ...serverOptionsOf(options),
  };
  return restoreDirectory(request, run.context(config));
}

function mappingsOf({ tablespaceMapping = [] }: Options): readonly TablespaceMapping[] {
  const given = tablespaceMapping as readonly string[];
  return given.map((text) => {
    const mapping = parseTablespaceMapping(text);
    if (mapping !== undefined) return mapping;
    throw new PgarkError('usage', `--tablespace-mapping ${text} is not OLD=NEW, two absolute paths`);
  });
}

export function directoryJson(outcome: DirectoryRestoreOutcome): Record<string, unknown> {
  const { manifest, directory, plan, warnings, done, durationMs, recovery, started } = outcome;
  return {
    state: done ? 'restored' : 'planned',
    backup: manifestJson(manifest),
    directory,
    ...(recovery && { recovery: recoveryJson(recovery) }),
    ...(started && { server: startedJson(started) }),
    duration_ms: durationMs,
    plan,
    warnings,
  };
}

export function describeDirectory(outcome: DirectoryRestoreOutcome): string {
  const { manifest, directory, plan, done, isOfRoot, durationMs, recovery, started } = outcome;
  const name = `${manifest.id} of ${manifest.startedAt}`;
  if (!done) return `would restore ${name}:\n${plan.map((step, index) => `  ${index + 1}. ${step}\n`).join('')}`;
  const head = `restored ${name} into ${directory} in ${formatDuration(durationMs)}\n`;
  const upTo = recovery === undefined ? 'the end of the backup' : describeStop(recovery);
  if (started !== undefined) {
    const last =
      started.lastTransaction === undefined
        ? ''
        : `  the last transaction in it was committed at ${started.lastTransaction}\n`;
    return `${head}  the server runs${started.port === undefined ? '' : ` on port ${started.port}`}; it has recovered up to ${upTo}\n${last}  its log: ${started.logFile}\n`;
  }
  const owner = isOfRoot ? `  it belongs to root: chown -R postgres ${directory} first\n` : '';
  const major = Math.floor(manifest.server.versionNum / 10_000);
  return `${head}${owner}  start PostgreSQL ${major} on it: pg_ctl -D ${directory} start; it recovers up to ${upTo}, and is a primary of its own\n`;
}
