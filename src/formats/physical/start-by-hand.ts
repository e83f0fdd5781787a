import { settingsByHand } from './recovery-settings.ts';

/**
 * The command lines by which a data directory that was unpacked by hand, with its WAL, is kept from being the old server: it would
 * follow that one's primary, archive where that one does, or stop at a target of long ago. It becomes a primary of a timeline of
 * its own instead.
 */
export function commandsBeforeStart(data: string, timeline: number): readonly string[] {
  const settings = settingsByHand(timeline).map((setting) => `"${setting}"`);
  return [
    `rm -f ${data}/standby.signal && touch ${data}/recovery.signal`,
    `sed -i -E '/^ *(recovery_target|data_directory)/Id' ${data}/postgresql*.conf`,
    `printf '%s\\n' ${settings.join(' ')} >> ${data}/postgresql.auto.conf`,
  ];
}

/** Behind the recovery: a replica that is made of the server would recover by the same settings. */
export const COMMAND_AFTER_START =
  "psql -d postgres -c 'ALTER SYSTEM RESET recovery_target_timeline' -c 'ALTER SYSTEM RESET hot_standby'";
