import type { Command } from 'commander';
import { formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { OperationContext } from '../operations/context.ts';
import {
  type DirectoryRestoreOutcome,
  type DirectoryRestoreRequest,
  parseTablespaceMapping,
  restoreDirectory,
  type TablespaceMapping,
} from '../operations/restore-directory.ts';
import type { CommandRun } from './command.ts';
import { manifestJson } from './json.ts';

type Options = Readonly<Record<string, unknown>>;

/** Options of a restore that have a meaning without a database to load into. */
const FITTING: ReadonlySet<string> = new Set([
  'at',
  'toDir',
  'tablespaceMapping',
  'identity',
  'passphraseFile',
  'storage',
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

/** `pgark restore … --to-dir DIR`. */
export async function restoreIntoDirectory(
  run: CommandRun,
  context: OperationContext,
  found: Pick<DirectoryRestoreRequest, 'store' | 'filter' | 'selector' | 'keys'>,
  directory: string,
  options: Options,
): Promise<void> {
  if (directory === '') {
    throw new PgarkError('usage', '--to-dir needs the path of a directory, and was given an empty one');
  }
  const request = { ...found, directory, mappings: mappingsOf(options), planOnly: options.plan === true };
  const outcome = await restoreDirectory(request, context);
  run.result(outcomeJson(outcome), () => describe(outcome));
}

function mappingsOf({ tablespaceMapping = [] }: Options): readonly TablespaceMapping[] {
  const given = tablespaceMapping as readonly string[];
  return given.map((text) => {
    const mapping = parseTablespaceMapping(text);
    if (mapping !== undefined) return mapping;
    throw new PgarkError('usage', `--tablespace-mapping ${text} is not OLD=NEW, two absolute paths`);
  });
}

function outcomeJson({
  manifest,
  directory,
  plan,
  done,
  durationMs,
}: DirectoryRestoreOutcome): Record<string, unknown> {
  return {
    state: done ? 'restored' : 'planned',
    backup: manifestJson(manifest),
    directory,
    duration_ms: durationMs,
    plan,
  };
}

function describe({ manifest, directory, plan, done, isOfRoot, durationMs }: DirectoryRestoreOutcome): string {
  const name = `${manifest.id} of ${manifest.startedAt}`;
  if (!done) return `would restore ${name}:\n${plan.map((step, index) => `  ${index + 1}. ${step}\n`).join('')}`;
  const owner = isOfRoot ? `  it belongs to root: chown -R postgres ${directory} first\n` : '';
  const major = Math.floor(manifest.server.versionNum / 10_000);
  return (
    `restored ${name} into ${directory} in ${formatDuration(durationMs)}\n${owner}` +
    `  start PostgreSQL ${major} on it: pg_ctl -D ${directory} start; it recovers, and is a primary of its own\n`
  );
}
