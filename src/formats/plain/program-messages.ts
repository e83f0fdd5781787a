import type { Logger } from '../../common/log.ts';

/**
 * Warnings of pg_dump and pg_restore (`pg_dump: warning: …`), and of the server by psql (`psql:<stdin>:12: WARNING:  …`). A severity in
 * another language is taken for one: loads are not told less, and one error comes last. Two blanks follow what libpq prints.
 */
const WARNING =
  /^(?:pg_\w+: warning: |(?:\S+:\d+: )?(?!(?:ERROR|FATAL|PANIC|NOTICE|INFO|LOG|DEBUG|DETAIL|HINT|QUERY|CONTEXT): )[^\s:\p{Ll}]+: {2,})(.*)$/u;
/** A dump may make the server warn at every statement; whoever wants to see all of them has the debug log. */
const WARNINGS_MAX = 20;

/**
 * Passes on what a program says on stderr: its warnings as warnings, since they may tell of what was left out, and
 * everything else for those who debug.
 */
export function passOnMessages(logger: Logger, subject: 'dump' | 'load'): (line: string) => void {
  let warnings = 0;
  return (line) => {
    const words = WARNING.exec(line)?.[1];
    if (words === undefined || warnings > WARNINGS_MAX) return logger.debug(`${subject}.message`, line);
    warnings++;
    if (warnings <= WARNINGS_MAX) return logger.warning(`${subject}.warning`, words);
    logger.warning(`${subject}.more_warnings`, 'there are further warnings; LOG_LEVEL=debug shows all');
  };
}
