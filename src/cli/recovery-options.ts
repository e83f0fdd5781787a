import { Option } from 'commander';
import { PgarkError } from '../common/errors.ts';
import type { DirectoryRestoreRequest, RecoveryRequest } from '../operations/restore-directory.ts';
import { targetAt, targetAtLsn } from '../operations/recovery/recovery-target.ts';
import { parseTime } from './time.ts';

type Options = Readonly<Record<string, unknown>>;
type Target = RecoveryRequest['target'];

/** Those that say up to where; a time is said with --at. */
const TARGETS = ['at', 'lsn', 'xid', 'restorePoint', 'immediate'] as const;
/** As commander calls them; without --at, which has a meaning for databases too. */
export const OPTIONS_OF_RECOVERY = [
  'lsn',
  'xid',
  'restorePoint',
  'immediate',
  'timeline',
  'port',
  'start',
  'allowTablespacePaths',
] as const;

export function recoveryOptions(): readonly Option[] {
  const option = (flags: string, what: string): Option => new Option(flags, `with --to-dir: ${what}`);
  return [
    option('--lsn <position>', 'recover up to this position of the write-ahead log, such as 0/3000028'),
    option('--xid <number>', 'recover up to the end of this transaction'),
    option('--restore-point <name>', 'recover up to the newest restore point of this name'),
    option('--immediate', 'recover to the end of the backup only (default: to the end of what is archived)'),
    option('--timeline <number>', 'follow this timeline (default: the newest that is archived)'),
    option('--start', 'start a server on it, and wait until it has recovered'),
    option('--port <number>', 'the restored server’s port (default: as it was)'),
    option(
      '--allow-tablespace-paths',
      'let the recovery make tablespaces at the paths that they had on the old server, where nothing else may use them (default: refuse)',
    ),
  ];
}

/** Undefined for a recovery to the end of the backup. Error: `usage`. */
export function recoveryOf(options: Options, fetch: RecoveryRequest['fetch']): DirectoryRestoreRequest['recovery'] {
  const given = TARGETS.filter((name) => options[name] !== undefined);
  if (given.length > 1) {
    throw new PgarkError('usage', 'a recovery has one target, not several', {
      hint: 'say one of --at TIME, --lsn L, --xid X, --restore-point NAME, --immediate, or none for all that is archived',
    });
  }
  const timeline = numberOf('--timeline', options.timeline, 0xffff_ffff);
  if (options.immediate === true) {
    if (timeline === undefined) return undefined;
    throw new PgarkError('usage', 'the end of a backup is on its own timeline: leave --timeline out');
  }
  const verifyFirst = typeof options.verifyFirst === 'boolean' ? options.verifyFirst : undefined;
  return { target: targetOf(options), timeline, fetch, verifyFirst };
}

/** What is said of the restored server itself. Error: `usage`. */
export function serverOptionsOf({
  start,
  port,
  allowTablespacePaths,
}: Options): Pick<DirectoryRestoreRequest, 'start' | 'port' | 'allowsTablespacePaths'> {
  return {
    start: start === true ? {} : undefined,
    port: numberOf('--port', port, 65_535),
    allowsTablespacePaths: allowTablespacePaths === true,
  };
}

function targetOf({ at, lsn, xid, restorePoint }: Options): Target {
  if (typeof at === 'string') return momentOf(at);
  if (typeof lsn === 'string') return targetAtLsn(lsn);
  if (typeof restorePoint === 'string') return { kind: 'restore-point', name: restorePoint };
  const number = numberOf('--xid', xid, Number.MAX_SAFE_INTEGER);
  // As SQL functions show it, it counts on where the 32 bits of the log begin anew.
  if (number !== undefined) return { kind: 'xid', xid: number % 2 ** 32 };
  return { kind: 'end' };
}

/** Commits are stamped with microseconds. */
function momentOf(text: string): Target {
  const [, beyond = ''] = /\.\d{3}(\d{1,3})/.exec(text) ?? [];
  return targetAt(parseTime('--at', text), Number(beyond.padEnd(3, '0')));
}

function numberOf(option: string, value: unknown, max: number): number | undefined {
  if (typeof value !== 'string') return undefined;
  const number = /^\d{1,16}$/.test(value) ? Number(value) : 0;
  if (number >= 1 && number <= max) return number;
  throw new PgarkError('usage', `${option} ${value} is not a number from 1 to ${max}`);
}
