import { type ByteString, toByteString } from '../../postgres/toc/byte-string.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import type { ServerParameters } from '../../postgres/wal/record.ts';
import { END_COMMAND } from './end-script.ts';

/** Up to where a restored server replays WAL. */
export interface RecoveryPlan {
  /** The timeline that it follows. */
  readonly timeline: number;
  /** Where it stops, and how it gets the WAL. Default: at the end of the WAL that lies in `pg_wal`. */
  readonly archive?: ArchiveRecovery | undefined;
  /** What the primary had, below which it would not recover. Default: they are left as they are. */
  readonly parameters?: ServerParameters | undefined;
  /** Default: as the server had it. */
  readonly port?: number | undefined;
}

interface ArchiveRecovery {
  readonly lsn: Lsn;
  /** Whether the record that begins there, or is the first behind it, is the last to be replayed; else that before it is. */
  readonly inclusive: boolean;
  readonly restoreCommand: string;
}

type Setting = readonly [name: string, value: string];

const UNLIKE_OLD_SERVER: readonly Setting[] = [
  // Programs of the old server: one that tidies up an archive would remove what others still need.
  ['archive_cleanup_command', ''],
  // Of a standby that lags on purpose: the recovery would wait as long at each commit.
  ['recovery_min_apply_delay', '0'],
  // One that lets nobody in meanwhile needs none of what the primary had: it would pause, and wait for somebody to restart it,
  // at the record by which the primary was given more connections.
  ['hot_standby', 'off'],
  ['archive_mode', 'off'],
  // With a standby that is not there every commit would wait for ever.
  ['synchronous_standby_names', ''],
  ['primary_conninfo', ''],
  ['primary_slot_name', ''],
  // A subscription would take from its slot at the publisher what the old server still needs.
  ['max_logical_replication_workers', '0'],
];

/** What several of would be taken for several targets, also where all but one are empty. */
const TARGET = /^recovery_target/;
const SETTING = /^\s*([A-Za-z_][\w.]*)\s*(=|\s)/;

/**
 * `postgresql.auto.conf`, which is read last, with what makes the server recover up to where the plan says, and then a primary
 * of its own timeline; and nothing of the old server's that would archive, tidy up, wait or connect from here. What is for the
 * recovery alone goes at its end, by a script beside it. `note` is a comment in it. Settings are bytes, which need not be UTF-8.
 */
export function withRecoverySettings(
  before: ByteString,
  { timeline, archive, parameters, port }: RecoveryPlan,
  note: string,
): ByteString {
  const settings: readonly Setting[] = [
    ['recovery_end_command', END_COMMAND],
    ...targetSettings(archive),
    // Unless told, recovery follows whatever newer timeline it finds.
    ['recovery_target_timeline', String(timeline)],
    ...UNLIKE_OLD_SERVER,
    ...Object.entries(parameters ?? {}).map(([name, value]) => [name, String(value)] as const),
    ...(port === undefined ? [] : [['port', String(port)] as const]),
  ];
  const names = new Set(settings.map(([name]) => name));
  const kept = before.split('\n').filter((line) => {
    const name = SETTING.exec(line)?.[1]?.toLowerCase();
    return name === undefined || !(names.has(name) || TARGET.test(name));
  });
  const added = settings.map(([name, value]) => `${name} = ${quoted(value)}\n`).join('');
  return (kept.join('\n').replace(/\n*$/, '\n') + toByteString(`# ${note}\n${added}`)) as ByteString;
}

/** Targets, of which a server takes one at the most, set to nothing or not; and where the old server's files are. */
const IN_THE_WAY = /^(\s*)((?:recovery_target(?:_time|_lsn|_xid|_name)?|data_directory)\s*(?:=|\s).*)$/gim;
const OUT_OF_USE = '# of the server that was backed up, taken out of use by pgark: ';

/**
 * `postgresql.conf` without the targets of an earlier recovery, which a primary does not look at: the server would stop there, or
 * not start because it has two; and without the old server's data directory, which it would use instead of its own. They become
 * comments. Undefined where there are none.
 */
export function withoutOldServer(settings: ByteString): ByteString | undefined {
  const changed = settings.replaceAll(IN_THE_WAY, `$1${OUT_OF_USE}$2`) as ByteString;
  return changed === settings ? undefined : changed;
}

/**
 * Settings for a server that somebody makes by hand of a backup, with the WAL that it needs in its `pg_wal`: it recovers to the end
 * of that as `withRecoverySettings` has it.
 */
export function settingsByHand(timeline: number): readonly string[] {
  const settings: readonly Setting[] = [
    ...targetSettings(undefined),
    ['recovery_target_timeline', String(timeline)],
    ['recovery_end_command', ''],
    ...UNLIKE_OLD_SERVER,
  ];
  return settings.map(([name, value]) => `${name} = ${quoted(value)}`);
}

function targetSettings(archive: ArchiveRecovery | undefined): readonly Setting[] {
  if (archive === undefined) {
    // Asked for each file before pg_wal is looked into; there is nothing to be had. No target is set: the WAL that lies there
    // ends where the backup does, of a standby with the very last record, behind which no target can be met; and a server
    // that does not get to the end of its base backup does not start.
    return [['restore_command', 'false']];
  }
  return [
    ['restore_command', archive.restoreCommand],
    // Without a target, missing or damaged WAL would be taken for the end.
    ['recovery_target_lsn', formatLsn(archive.lsn)],
    ['recovery_target_inclusive', archive.inclusive ? 'on' : 'off'],
    ['recovery_target_action', 'promote'],
  ];
}

/** Configuration files know quotes and backslashes as SQL's escape strings do. */
function quoted(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
