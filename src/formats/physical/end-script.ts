import { toByteString } from '../../postgres/toc/byte-string.ts';
import type { TargetFolder } from './target-files.ts';

/** In `pg_wal`, which base backups leave out: nothing of it gets from the restored server into its own backups. */
export const RECOVERY_FOLDER = 'pg_wal/pgark';

/**
 * The recovery_end_command of a restored server, run in the data directory. Whoever inherits it without the script, as a
 * copy of a server that is still recovering does, has nothing to end: a shell's status for what is missing would end the server.
 */
export const END_COMMAND = `[ ! -f ${RECOVERY_FOLDER}/end ] || /bin/sh ${RECOVERY_FOLDER}/end`;

/** Writes what that command runs. */
export async function writeEndScript(data: TargetFolder): Promise<void> {
  await data.makeFolder(toByteString(RECOVERY_FOLDER));
  await data.replace(`${RECOVERY_FOLDER}/end`, SCRIPT);
}

/**
 * A replica is made with the settings of its primary, and would recover by them: to the same target, on the same timeline, by a
 * script that is gone. Commands are set to nothing instead: those that stand in postgresql.conf are of the old server, whose archive
 * has other WAL by the same names. Nobody can change the file meanwhile, since nobody can log in yet; it is what it was, or what
 * it is to be, and a base backup leaves out its other name. The folder gets another name first, where who reads ahead makes
 * nothing new.
 */
const SCRIPT = `# Written by pgark: the recovery_end_command of this server.
settings=postgresql.auto.conf
if cp -p $settings $settings.tmp &&
  LC_ALL=C sed -e '/^recovery_target/d' -e '/^hot_standby = /d' \\
    -e "s/^restore_command = .*/restore_command = ''/" \\
    -e "s/^recovery_end_command = .*/recovery_end_command = ''/" $settings >$settings.tmp
then
  sync $settings.tmp 2>/dev/null
  mv -f $settings.tmp $settings
else
  rm -f $settings.tmp
fi
rm -f ${RECOVERY_FOLDER}/environment
mv ${RECOVERY_FOLDER} ${RECOVERY_FOLDER}.ended && rm -rf ${RECOVERY_FOLDER}.ended
`;
