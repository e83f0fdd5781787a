import { formatBytes, formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { hasFailed, type RestoreGlobalsOutcome } from '../operations/whole-server/restore-globals.ts';
import type { RestoreAllOutcome, RestoredDatabase } from '../operations/whole-server/restore-all.ts';
import { sizesOf } from '../repository/manifest.ts';
import type { LoadedObject } from '../operations/whole-server/load-globals.ts';
import { selectNames } from '../service/database-patterns.ts';
import { isOfDamage } from '../service/gravest.ts';
import { reportError } from './errors.ts';
import { globalsJson, manifestJson } from './json.ts';
import { formatCount, formatTable, formatTime } from './table.ts';

/** Roles and tablespaces as `--output json` shows them. */
export function globalsOutcomeJson(outcome: RestoreGlobalsOutcome): Record<string, unknown> {
  const { record, storage, done, objects, durationMs } = outcome;
  return {
    state: done ? (objects.some(hasFailed) ? 'partial' : 'restored') : 'planned',
    storage,
    globals: globalsJson(record),
    duration_ms: durationMs,
    objects: objects.map(({ kind, name, action, notes, failures }) => ({
      kind,
      name,
      action,
      notes,
      failed: failures.map(({ what, error }) => ({ what, error: reportError(error) })),
    })),
  };
}

const KINDS = ['role', 'membership', 'parameter', 'tablespace', 'database', 'statement'] as const;
const NOUNS = {
  role: 'role',
  membership: 'membership',
  parameter: 'right on parameters',
  tablespace: 'tablespace',
  database: 'database',
  statement: 'statement',
} as const;

export function describeGlobals(outcome: RestoreGlobalsOutcome): string {
  const { record, done, objects, durationMs } = outcome;
  const head = `${record.id} of ${formatTime(record.startedAt)}`;
  const title = done
    ? `roles and tablespaces of ${record.source} restored (${head}) in ${formatDuration(durationMs)}`
    : `would restore the roles and tablespaces of ${record.source} (${head})`;
  const lines = KINDS.flatMap((kind) => objects.filter((object) => object.kind === kind).flatMap(describeObject));
  const same = objects.filter((object) => describeObject(object).length === 0).length;
  const rest = same === 0 ? '' : `  as they were stored already: ${same}\n`;
  return `${title}:\n${lines.map((line) => `  ${line}\n`).join('')}${rest}`;
}

/** Nothing for one that is there and the same. */
function describeObject(object: LoadedObject): readonly string[] {
  const { kind, name, action, notes, failures } = object;
  const what = `${NOUNS[kind]} ${name}`;
  const differs = notes.length === 0 ? '' : ` (differs: ${notes.join(', ')})`;
  const failed = failures.map(({ what: part }) => part).filter((part) => part !== '');
  if (failures.length > 0) return [`FAILED     ${what}${failed.length === 0 ? '' : `: ${failed.join(', ')}`}`];
  switch (action) {
    case 'create':
      return [`create     ${what}${notes.length === 0 ? '' : ` (${notes.join(', ')})`}`];
    case 'extend':
      return [`add to     ${what}: ${object.statements.map((each) => each.what).join(', ')}${differs}`];
    case 'overwrite':
      return [`overwrite  ${what}: ${notes.join(', ')}`];
    case 'leave':
      return notes.length === 0 ? [] : [`leave      ${what}${differs}`];
    case 'leave-out':
      return [`leave out  ${what}`];
    case 'refuse':
      return [`FAILED     ${what}: ${notes.join(', ')}`];
    default:
      return action satisfies never;
  }
}

export function outcomeOfAllJson(outcome: RestoreAllOutcome, config: Config): Record<string, unknown> {
  const { source, done, globals, databases, younger, durationMs } = outcome;
  return {
    state: done ? (failureOfAll(outcome) === undefined ? 'restored' : 'partial') : 'planned',
    source,
    globals: globals && globalsOutcomeJson(globals),
    databases: databases.map((each) => {
      const { manifest, storage, state, plan, error } = each;
      return {
        database: manifest.database.name,
        state,
        configured: isConfigured(each, config),
        storage,
        backup: manifestJson(manifest),
        duration_ms: each.durationMs,
        plan,
        ...(error && { error: reportError(error) }),
      };
    }),
    without_backup_so_old: younger,
    duration_ms: durationMs,
  };
}

export function describeAll(outcome: RestoreAllOutcome, config: Config): string {
  const { source, done, globals, databases, younger, durationMs } = outcome;
  const head = done
    ? `restored ${databases.filter(({ state }) => state === 'restored').length} of ${formatCount(databases.length, 'database')} of ${source} in ${formatDuration(durationMs)}\n`
    : `would restore ${formatCount(databases.length, 'database')} of ${source}, one after another, each into a new database of its name\n`;
  const table = formatTable(
    [
      { title: 'DATABASE' },
      { title: 'BACKUP' },
      { title: 'TAKEN' },
      { title: 'STORED', align: 'right' },
      { title: 'FROM' },
      { title: '' },
    ],
    databases.map((each) => {
      const { manifest, storage, state } = each;
      return [
        manifest.database.name,
        manifest.id,
        formatTime(manifest.startedAt),
        formatBytes(sizesOf(manifest).storedBytes),
        storage,
        [...(state === 'planned' ? [] : [state]), ...(isConfigured(each, config) ? [] : ['no longer configured'])].join(
          ', ',
        ),
      ];
    }),
  );
  const late = younger.length === 0 ? '' : `without a backup so old, and left out: ${younger.join(', ')}\n`;
  const roles = globals === undefined ? '' : `${describeGlobals(globals)}\n`;
  return `${roles}${head}${table}${late}`;
}

/** Whether backups of the database are still made, as far as the configuration says; with none, nothing is known. */
function isConfigured({ manifest: { source, database } }: RestoredDatabase, { databases }: Config): boolean {
  if (databases.size === 0) return true;
  const configured = databases.get(source);
  if (configured === undefined) return false;
  const { databases: patterns, connection } = configured;
  return patterns === undefined
    ? connection.database === database.name
    : selectNames(patterns, [database.name]).length > 0;
}

/** What the command ends with: nothing but one thing failed, or `partial`; what says of damage is never hidden. */
export function failureOfAll({ globals, databases }: RestoreAllOutcome): PgarkError | undefined {
  const errors = databases.flatMap(({ error }) => error ?? []);
  const isPartOfGlobals = globals !== undefined && globals.done && globals.objects.some(hasFailed);
  const damage = errors.find(isOfDamage);
  if (damage !== undefined) return damage;
  const [first] = errors;
  if (first === undefined && !isPartOfGlobals) return undefined;
  if (first !== undefined && databases.length === 1 && !isPartOfGlobals) return first;
  const parts = [
    ...(errors.length > 0 ? [`${errors.length} of ${databases.length} databases were not restored`] : []),
    ...(isPartOfGlobals ? ['some of the roles and tablespaces were not made'] : []),
  ];
  return new PgarkError('partial', parts.join(', and '), {
    hint: 'the lines above say why; restore what is missing one by one: pgark restore ID --to-url URL/DATABASE',
  });
}
