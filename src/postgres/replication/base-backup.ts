import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { SequencePart } from '../../common/stream-sequence.ts';
import { quoteLiteral } from '../client/quote.ts';
import type { Conversation } from '../protocol/conversation.ts';
import { BaseBackupAnswer, type BackupStream } from './base-backup-answer.ts';
import type { ReplicationSession } from './replication-session.ts';

export interface BaseBackupOptions {
  /** Stands in backup_label. */
  readonly label: string;
  /** `fast`: the checkpoint before is made at once; `spread`: at the server's own pace, which may take minutes. */
  readonly checkpoint: 'fast' | 'spread';
  /** Upper limit of what the server sends in a second, in kilobytes (1,024 bytes), from 32 to 1,048,576. */
  readonly rateKilobytesMax?: number | undefined;
  /** Only what was changed since the backup whose manifest this session was given before (`uploadManifest`). PostgreSQL 17. */
  readonly incremental?: boolean | undefined;
  /** Ends the backup with its reason, and the session with it. */
  readonly signal: AbortSignal;
  /** Told of the bytes of every chunk as it comes. */
  readonly onBytes: (bytes: number) => void;
}

/** A point in the server's WAL. */
export interface WalPosition {
  /** As PostgreSQL writes it: `0/2000028`. */
  readonly lsn: string;
  readonly timeline: number;
}

/** What an archive is of. */
export interface BackedUpTablespace {
  /** Missing: the data directory. */
  readonly oid: string | undefined;
  /** Path on the server; of the data directory the empty one. */
  readonly location: string;
  /** The server's estimate. */
  readonly bytes: number;
}

export interface BackupArchive {
  readonly tablespace: BackedUpTablespace;
  /**
   * The tar archive, to be read to its end, once, before the next archive is asked for. Before PostgreSQL 15 it has no end
   * mark. Aborting the signal ends the whole backup at once.
   */
  readonly read: (signal: AbortSignal) => ByteStream;
}

/** Behind the results that tell the start and the tablespaces. */
const END_RESULT = 2;

/** A base backup that the server is making, on a session that does nothing else until it is over. */
export class BaseBackup {
  readonly start: WalPosition;
  /** In the order of their archives; the data directory is the last one. */
  readonly tablespaces: readonly BackedUpTablespace[];
  readonly #answer: BaseBackupAnswer;
  readonly #conversation: Conversation;

  private constructor(answer: BaseBackupAnswer, conversation: Conversation) {
    this.#answer = answer;
    this.#conversation = conversation;
    const [start, tablespaces = []] = answer.results;
    this.start = positionOf(start);
    this.tablespaces = tablespaces.map(tablespaceOf);
  }

  /** Resolves when the checkpoint is made and the server begins to send. Errors: `postgres-…`. */
  static async begin(session: ReplicationSession, options: BaseBackupOptions): Promise<BaseBackup> {
    const { signal } = options;
    signal.throwIfAborted();
    const flow = { pause: () => conversation.pause(), resume: () => conversation.resume() };
    const answer = new BaseBackupAnswer({ major: session.major, flow, onBytes: options.onBytes });
    const conversation = await session.converse(commandFor(session.major, options))(answer);
    const leave = (): void => conversation.destroy(signal.reason);
    if (signal.aborted) leave();
    else signal.addEventListener('abort', leave, { once: true });
    conversation.ended
      .then(
        () => answer.streams.end(),
        (error: unknown) => answer.streams.fail(error),
      )
      .finally(() => signal.removeEventListener('abort', leave));
    await Promise.race([answer.begun, conversation.ended]);
    return new BaseBackup(answer, conversation);
  }

  /** All archives, one after another. Errors: the server's, and the signal's reason. */
  async *archives(): AsyncGenerator<BackupArchive> {
    for (const tablespace of this.tablespaces) {
      const part = await this.#next('archive');
      yield { tablespace, read: (signal) => this.#read(part, signal) };
    }
  }

  /**
   * The backup_manifest, once all archives were read. It ends without throwing only if the server has ended the backup
   * without an error: the last thing that it does is to count the pages whose checksums are wrong.
   */
  async *manifest(signal: AbortSignal): ByteStream {
    const part = await this.#next('manifest');
    yield* this.#read(part, signal);
    await this.#conversation.ended;
  }

  /** Where the WAL ends that the backup needs; known when the manifest was read. */
  get stop(): WalPosition {
    return positionOf(this.#answer.results[END_RESULT]);
  }

  /** Leaves a backup that is not over: the server gives up when it next writes, and the session is over. */
  leave(reason: unknown): void {
    this.#conversation.destroy(reason);
  }

  async #next(kind: BackupStream): Promise<SequencePart<BackupStream>> {
    const part = await this.#answer.streams.next();
    if (part?.label === kind) return part;
    throw new PgarkError('postgres-failed', `the server has sent ${part?.label ?? 'nothing'} in the place of ${kind}`);
  }

  async *#read({ queue }: SequencePart<BackupStream>, signal: AbortSignal): ByteStream {
    const leave = (): void => this.leave(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    try {
      for (;;) {
        signal.throwIfAborted();
        const block = await queue.next();
        if (block === undefined) return;
        yield block;
      }
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }
}

/** Since PostgreSQL 15 options are in parentheses. */
function commandFor(major: number, { label, checkpoint, rateKilobytesMax, incremental }: BaseBackupOptions): string {
  const name = quoteLiteral(label);
  const rate = rateKilobytesMax === undefined ? [] : [`MAX_RATE ${rateKilobytesMax}`];
  const manifest = ["MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'SHA256'"];
  if (major < 15) {
    const fast = checkpoint === 'fast' ? ['FAST'] : [];
    return ['BASE_BACKUP', `LABEL ${name}`, 'PROGRESS', ...fast, 'NOWAIT', ...rate, 'TABLESPACE_MAP', ...manifest].join(
      ' ',
    );
  }
  const options = [
    `LABEL ${name}`,
    'PROGRESS',
    `CHECKPOINT '${checkpoint}'`,
    'WAIT false',
    ...rate,
    'TABLESPACE_MAP',
    ...manifest,
    ...(incremental === true ? ['INCREMENTAL'] : []),
  ];
  return `BASE_BACKUP (${options.join(', ')})`;
}

function positionOf(rows: readonly (readonly (string | null)[])[] | undefined): WalPosition {
  const [lsn, timeline] = rows?.[0] ?? [];
  if (lsn && timeline) return { lsn, timeline: Number(timeline) };
  throw new PgarkError('postgres-failed', 'the server has not told where in its WAL the base backup begins and ends');
}

function tablespaceOf([oid, location, kilobytes]: readonly (string | null)[]): BackedUpTablespace {
  return { oid: oid ?? undefined, location: location ?? '', bytes: Number(kilobytes ?? 0) * 1_024 };
}
