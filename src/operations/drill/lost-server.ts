import { statfs } from 'node:fs/promises';
import { formatBytes } from '../../common/bytes.ts';
import type { ErrorCode } from '../../common/error-table.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { ThrowawayServer } from '../../postgres/server/throwaway-server.ts';
import { impossible } from './of-machine.ts';

/** Of a busy server: what ended it stands before all that it refused while it came up again. */
const LOG_TAIL_CHARS = 256 * 1024;

/** What a load fails with whose server has ended. */
const MAY_BE_LOST: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'postgres-unreachable',
  'postgres-failed',
  'restore-failed',
]);

/** What a line of the log begins with: what a statement says stands in lines of its own, behind a tab. */
const HEAD_OF_LINE = /^[^\t[]*\[\d+\]/;
const LEVEL = /(?:PANIC|FATAL|LOG): /;

/** What a server says that ends because its machine lacks something. */
const OF_MACHINE =
  /No space left on device|Disk quota exceeded|Input\/output error|Read-only file system|out of memory/;
const KILLED = /terminated by signal 9\b/;

/** The first of such words in a log. Each line is read a few times at most, however long it is. */
function wordsOfMachine(log: string): string | undefined {
  for (const line of log.split('\n')) {
    const level = LEVEL.exec(line);
    if (level === null || !HEAD_OF_LINE.test(line)) continue;
    const words = line.slice(level.index);
    if ((words.startsWith('LOG') ? KILLED : OF_MACHINE).test(words)) return words;
  }
  return undefined;
}

/**
 * In place of an error that came of the end of a drill's own server: `drill-impossible`, with what that server said last and the
 * room that its disk has. Nobody but the drill reaches it, so that it is neither the network nor the backup.
 */
export async function ofLostServer(
  id: string,
  error: unknown,
  server: Pick<ThrowawayServer, 'logTail'>,
  folder: string,
): Promise<unknown> {
  if (!isPgarkError(error) || !MAY_BE_LOST.has(error.code)) return error;
  const log = await server.logTail(LOG_TAIL_CHARS);
  const words = wordsOfMachine(log);
  if (words !== undefined) return lost(id, error, words, folder);
  if (error.code !== 'postgres-unreachable') return error;
  return lost(id, error, log.split('\n').at(-1) ?? '', folder);
}

async function lost(id: string, error: PgarkError, words: string, folder: string): Promise<PgarkError> {
  const room = await statfs(folder).then(
    ({ bavail, bsize }) => `; the disk of ${folder} has ${formatBytes(bavail * bsize)} free`,
    () => '',
  );
  const why = `the server that it was loaded into has ended: ${words}${room}`;
  return impossible(id, new PgarkError('postgres-unreachable', why, { cause: error }));
}
