import { assert } from '../../common/errors.ts';
import { sqlStateOf } from '../client/server-error.ts';
import { HEADER_BYTES, MESSAGE } from '../protocol/message.ts';
import type { ReplicationSession } from './replication-session.ts';
import { historyFileName } from '../wal/timeline-history.ts';

/**
 * The history file of a timeline, byte for byte as the server has it (TIMELINE_HISTORY): its content may be in any encoding.
 * Error: `postgres-failed` if the server has none.
 */
export async function readTimelineHistory(session: ReplicationSession, timeline: number): Promise<Buffer> {
  let content: Buffer | undefined;
  const conversation = await session.converse(`TIMELINE_HISTORY ${timeline}`)({
    copyData: () => assert(false, 'a history comes as a row'),
    chunkRead: () => undefined,
    message: (type, frame) => {
      if (type === MESSAGE.dataRow) content = secondValue(frame, historyFileName(timeline));
    },
  });
  await conversation.ended;
  assert(content !== undefined, 'the server answers TIMELINE_HISTORY with one row');
  return content;
}

/** ERRCODE_UNDEFINED_FILE. */
const NO_SUCH_FILE = '58P01';

/** Whether that is why a server gave no history: a base backup brings the one of its own timeline, and none of those before. */
export function isMissingHistory(error: unknown): boolean {
  return sqlStateOf(error) === NO_SUCH_FILE;
}

/** The row has the file's name and its content; two bytes count them, four bytes are the length of each. */
function secondValue(frame: Buffer, firstValue: string): Buffer {
  const at = HEADER_BYTES + 2;
  const nameBytes = frame.readInt32BE(at);
  const name = frame.toString('latin1', at + 4, at + 4 + nameBytes);
  assert(name === firstValue, `the server sent ${name} where ${firstValue} was asked for`);
  const contentAt = at + 4 + nameBytes;
  const bytes = frame.readInt32BE(contentAt);
  assert(bytes >= 0 && contentAt + 4 + bytes <= frame.length, 'the content lies within its row');
  return frame.subarray(contentAt + 4, contentAt + 4 + bytes);
}
