import { isPgarkError, messageOf, type PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Session } from '../../postgres/client/connect.ts';
import type { SnapshotSession } from './dump-session.ts';
import type { Leader } from './leader.ts';
import type { Piece } from './piece-plan.ts';

/** How often a piece is begun, each time on a new connection. */
const ATTEMPTS_MAX = 3;

export interface CrewRequest {
  readonly leader: Leader;
  /** How many sessions read at once. */
  readonly jobs: number;
  /** In the order in which they are taken. */
  readonly pieces: readonly Piece[];
  /** Oids of tables that several sessions read: each locks them before it begins, as long as nobody waits for them. */
  readonly cutTables: readonly number[];
  readonly open: () => Promise<SnapshotSession>;
  /**
   * Reads a piece and stores it; what it has stored before it failed it does not read again. Resolves as soon as all is
   * read, and the session free for the next one.
   */
  readonly carryOut: (session: Session, piece: Piece, signal: AbortSignal) => Promise<ReadPiece>;
  readonly logger: Logger;
  /** Aborted when nothing more is to be begun. */
  readonly signal: AbortSignal;
}

/** A piece that has been read to its end. */
export interface ReadPiece {
  /** Resolves when it is stored; an error of the storage, which is final. */
  readonly stored: Promise<void>;
}

/**
 * Has all pieces read, by several sessions under the leader's snapshot. A piece whose connection breaks is read again on a
 * new one; one whose table cannot be locked at once, since somebody waits for it, by the leader, who has the lock; so is
 * what is left if the server takes no further connections. While a session reads a piece, the end of the one before is
 * stored. Resolves when all is stored. Rejects with the first error that is final, after all sessions have stopped; the
 * leader is lost then, or may be used for nothing more, and what is being stored is of no use.
 */
export async function readAll(request: CrewRequest): Promise<void> {
  const crew = new Crew(request);
  await crew.work();
}

/** How far a session came with a piece. */
interface Done {
  /** On which to go on; undefined if the server has none to give. */
  readonly session?: SnapshotSession;
  /** Undefined for one that is left to the leader. */
  readonly read?: ReadPiece | undefined;
}

class Crew {
  readonly #request: CrewRequest;
  readonly #queue: Piece[];
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** Resolves when the signal is aborted. */
  readonly #over: Promise<void>;
  /** What only the leader can read. */
  readonly #left: Piece[] = [];
  #failure: { readonly error: unknown } | undefined;

  constructor(request: CrewRequest) {
    this.#request = request;
    this.#queue = [...request.pieces];
    this.#signal = AbortSignal.any([request.signal, this.#stop.signal]);
    this.#over = new Promise((resolve) => {
      this.#signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  async work(): Promise<void> {
    const { leader, pieces } = this.#request;
    const jobs = Math.min(this.#request.jobs, pieces.length);
    await Promise.all(Array.from({ length: jobs }, () => this.#read()));
    if (this.#failure !== undefined) await this.#explain(this.#failure.error);
    this.#signal.throwIfAborted();
    if (!leader.holds) await leader.confirm();
    const rest = [...this.#left, ...this.#queue.splice(0)];
    if (rest.length === 0) return;
    const session = leader.takeOver();
    for (const piece of rest) {
      this.#signal.throwIfAborted();
      const { stored } = await this.#request.carryOut(session, piece, this.#signal);
      await stored;
    }
  }

  /** One session's share. Never rejects. */
  async #read(): Promise<void> {
    let session: SnapshotSession | undefined;
    try {
      // Of the piece before; one, so that memory is bounded.
      let stored: Promise<void> | undefined;
      while (!this.#isOver) {
        const piece = this.#queue.shift();
        if (piece === undefined) break;
        const done: Done = await this.#attempt(piece, session);
        session = done.session;
        await this.#unlessOver(stored);
        stored = done.read?.stored.catch((error: unknown) => this.#fail(error));
        if (session === undefined && done.read === undefined) break;
      }
      await this.#unlessOver(stored);
    } catch (error) {
      this.#fail(error);
    } finally {
      await session?.close();
    }
  }

  /** A storage that hangs does not hold up the end. */
  async #unlessOver(stored: Promise<void> | undefined): Promise<void> {
    await Promise.race([stored, this.#over]);
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stop.abort(error);
  }

  async #attempt(piece: Piece, given: SnapshotSession | undefined): Promise<Done> {
    let session = given;
    let read: ReadPiece | undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        session ??= await this.#open();
        const { session: connected } = session;
        const carryOut = async (): Promise<void> => {
          read = await this.#request.carryOut(connected, piece, this.#signal);
        };
        if (piece.kind !== 'table') await carryOut();
        else if ((await session.withLocked(piece.oid, carryOut)) === undefined) this.#left.push(piece);
        return { session, read };
      } catch (error) {
        const wasOpen = session !== undefined;
        await session?.close();
        session = undefined;
        // The piece is on its way into the store: it was the session alone that was lost.
        if (read !== undefined) return { read };
        if (this.#isOver || !isOfServer(error)) throw error;
        if (attempt < ATTEMPTS_MAX) this.#tellOfRetry(piece, error);
        else if (wasOpen) throw error;
        else {
          this.#giveWay(piece, error);
          return {};
        }
      }
    }
  }

  async #open(): Promise<SnapshotSession> {
    const session = await this.#request.open();
    try {
      await session.keepLocked(this.#request.cutTables);
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  get #isOver(): boolean {
    return this.#signal.aborted || !this.#request.leader.holds;
  }

  /** What ends all sessions says more than what one of them has met. */
  async #explain(error: unknown): Promise<never> {
    this.#request.signal.throwIfAborted();
    if (isOfServer(error)) await this.#request.leader.confirm();
    throw error;
  }

  #tellOfRetry(piece: Piece, error: PgarkError): void {
    const message = `a part of the dump is read again on a new connection: ${error.message}`;
    this.#request.logger.warning('dump.piece_retried', message, { entry: piece.entry, code: error.code });
  }

  #giveWay(piece: Piece, error: unknown): void {
    this.#left.push(piece);
    const message = `the dump goes on with fewer connections: ${messageOf(error)}`;
    this.#request.logger.warning('dump.fewer_connections', message);
  }
}

/** What the server or the connection to it has met; a storage's errors are none of these. */
function isOfServer(error: unknown): error is PgarkError {
  return isPgarkError(error, 'postgres-unreachable') || isPgarkError(error, 'postgres-failed');
}
