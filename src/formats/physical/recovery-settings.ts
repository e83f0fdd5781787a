import { type ByteString, toByteString } from '../../postgres/toc/byte-string.ts';

/** Up to where a restored server replays WAL. */
export interface RecoveryPlan {
  /** The timeline that it follows. */
  readonly timeline: number;
}

/** What several of would be taken for several targets, also where all but one are empty. */
const TARGET = /^recovery_target/;
const SETTING = /^\s*([A-Za-z_][\w.]*)\s*(=|\s)/;

/**
 * `postgresql.auto.conf`, which is read last, with what makes the server recover by the WAL that lies in `pg_wal`, up to its
 * end, and then a primary of its own timeline; and nothing of the old server's that would archive, tidy up, wait or connect from
 * here. `note` is a comment in it. Settings are bytes, which need not be UTF-8.
 */
export function withRecoverySettings(before: ByteString, { timeline }: RecoveryPlan, note: string): ByteString {
  const settings: readonly (readonly [string, string])[] = [
    // Programs of the old server: one that tidies up an archive would remove what others still need.
    ['archive_cleanup_command', ''],
    ['recovery_end_command', ''],
    // Asked for each file before pg_wal is looked into; there is nothing to be had. No target is set: the WAL that lies there
    // ends where the backup does, of a standby with the very last record, behind which no target can be met; and a server
    // that does not get to the end of its base backup does not start.
    ['restore_command', 'false'],
    // Unless told, recovery follows whatever newer timeline it finds.
    ['recovery_target_timeline', String(timeline)],
    ['archive_mode', 'off'],
    // With a standby that is not there every commit would wait for ever.
    ['synchronous_standby_names', ''],
    ['primary_conninfo', ''],
    ['primary_slot_name', ''],
  ];
  const names = new Set(settings.map(([name]) => name));
  const kept = before.split('\n').filter((line) => {
    const name = SETTING.exec(line)?.[1]?.toLowerCase();
    return name === undefined || !(names.has(name) || TARGET.test(name));
  });
  const added = settings.map(([name, value]) => `${name} = ${quoted(value)}\n`).join('');
  return (kept.join('\n').replace(/\n*$/, '\n') + toByteString(`# ${note}\n${added}`)) as ByteString;
}

/** Configuration files know quotes and backslashes as SQL's escape strings do. */
function quoted(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
