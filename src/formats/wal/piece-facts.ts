import { z } from 'zod';
import { KIB } from '../../common/bytes.ts';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { formatServerTime, parseServerTime, type ServerTime } from '../../postgres/wal/server-time.ts';

/** What a stored piece of WAL says of itself. */
export interface PieceFacts {
  readonly systemIdentifier: string;
  /** Undefined for what is no segment's. */
  readonly segmentBytes: number | undefined;
  readonly timeline: number;
  /** Where it begins, and behind its last byte; both 0 for what is no segment's. */
  readonly from: Lsn;
  readonly to: Lsn;
  /**
   * The server's clock when it sent the first and the last byte: what is committed in it was committed by then. Both are
   * the same for files that an archive_command hands over: the time when the server wrote last to the file.
   */
  readonly since: ServerTime;
  readonly until: ServerTime;
  /**
   * How far the server had WAL then, at `until`. Where that is `to`, all that was committed by then is archived up to here.
   * Undefined where it is not known.
   */
  readonly serverEnd: Lsn | undefined;
  /** Of the content before compression. */
  readonly bytes: number;
  readonly sha256: string;
}

const serverTime = z.iso.datetime({ precision: 6 });
const factsSchema = z.object({
  systemIdentifier: z.string().regex(/^\d+$/),
  segmentBytes: z.number().int().positive().optional(),
  timeline: z.number().int().positive(),
  from: z.string(),
  to: z.string(),
  since: serverTime,
  until: serverTime,
  serverEnd: z.string().optional(),
  bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

/** A skippable frame of zstd (RFC 8878, 3.1.2), which every reader of zstd passes over. */
const FRAME_MAGIC = 0x184d2a50;
const FRAME_HEADER_BYTES = 8;
const PREFIX = 'pgark-wal ';
const FRAME_BYTES_MAX = 4 * KIB;
/**
 * What it is filled up to with blanks: so the same content makes an object of the same length whoever stores it, which is all
 * that can be compared where there is neither metadata nor a key. The facts take up to 360 bytes.
 */
const FRAME_BYTES = 512;

/** The facts as the first frame of an object, before compressed content. */
export function factsFrame(facts: PieceFacts): Uint8Array {
  const { systemIdentifier, segmentBytes, timeline, bytes, sha256 } = facts;
  const json = JSON.stringify({
    systemIdentifier,
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
    timeline,
    from: formatLsn(facts.from),
    to: formatLsn(facts.to),
    since: formatServerTime(facts.since),
    until: formatServerTime(facts.until),
    ...(facts.serverEnd === undefined ? {} : { serverEnd: formatLsn(facts.serverEnd) }),
    bytes,
    sha256,
  });
  const content = Buffer.from(`${`${PREFIX}${json}`.padEnd(FRAME_BYTES - 1)}\n`);
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32LE(FRAME_MAGIC, 0);
  header.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, content]);
}

/** How many bytes of an object, decrypted, `parseFactsFrame` wants at the most. */
export const FACTS_BYTES_MAX = FRAME_HEADER_BYTES + FRAME_BYTES_MAX;

/** Reads the facts at the beginning of an object, once decrypted. Error: `corrupt`, naming the object. */
export function parseFactsFrame(first: Uint8Array, name: string): PieceFacts {
  const damaged = (why: string, cause?: unknown): PgarkError =>
    new PgarkError('corrupt', `${name} is not a piece of WAL as pgark stores it: ${why}`, { cause });
  const view = new DataView(first.buffer, first.byteOffset, first.byteLength);
  if (view.byteLength < FRAME_HEADER_BYTES || view.getUint32(0, true) !== FRAME_MAGIC) {
    throw damaged('it does not begin with what it holds');
  }
  const bytes = view.getUint32(4, true);
  if (bytes > FRAME_BYTES_MAX || view.byteLength < FRAME_HEADER_BYTES + bytes) throw damaged('its first frame is cut');
  const text = Buffer.from(first.buffer, first.byteOffset + FRAME_HEADER_BYTES, bytes).toString('utf8');
  if (!text.startsWith(PREFIX)) throw damaged('its first frame is of another program');
  try {
    const facts = factsSchema.parse(JSON.parse(text.slice(PREFIX.length)));
    return {
      ...facts,
      segmentBytes: facts.segmentBytes,
      from: parseLsn(facts.from),
      to: parseLsn(facts.to),
      since: parseServerTime(facts.since),
      until: parseServerTime(facts.until),
      serverEnd: facts.serverEnd === undefined ? undefined : parseLsn(facts.serverEnd),
    };
  } catch (error) {
    throw damaged(messageOf(error), error);
  }
}
