import type { Clock } from '../../common/clock.ts';
import { PgarkError } from '../../common/errors.ts';
import type { SegmentStream } from '../../postgres/replication/segment-stream.ts';
import type { ServerMonitor } from './server-monitor.ts';

const LOOK_MS = 100;
/** A server that shuts down waits for us no longer than this, all in all, because we take nothing. */
const HELD_UP_MS_MAX = 1_000;
/** It may have much to send; after this time the rest is left to the next start. */
const SENDING_MS_MAX = 5_000;
/** Without a monitor nobody tells that the server shuts down: a stream that stands still for so long is ended in any case. */
const HELD_UP_UNTOLD_MS_MAX = 2_000;

/**
 * Lets a server that shuts down go, although not all was taken that it has to send: it waits until all is sent to those who
 * stream, and the store may take nothing, or slowly. What was not sent stays on its disk, kept by the slot.
 */
export class ServerEnd {
  readonly #stream: SegmentStream;
  readonly #clock: Clock;
  readonly #ended = new AbortController();

  constructor(stream: SegmentStream, monitor: ServerMonitor | undefined, clock: Clock) {
    this.#stream = stream;
    this.#clock = clock;
    void stream.ended.catch(() => undefined).then(() => this.end());
    const watching =
      monitor === undefined
        ? this.#watch(HELD_UP_UNTOLD_MS_MAX, Infinity)
        : monitor.gone.then(() => this.#watch(HELD_UP_MS_MAX, SENDING_MS_MAX));
    watching.catch(() => undefined);
  }

  end(): void {
    this.#ended.abort(new Error('the stream has ended'));
  }

  async #watch(heldUpMsMax: number, sendingMsMax: number): Promise<void> {
    let heldUpMs = 0;
    for (let sendingMs = 0; !this.#ended.signal.aborted; sendingMs += LOOK_MS) {
      const stream = this.#stream;
      const isBehind = stream.server !== undefined && stream.received < stream.server.end;
      heldUpMs = stream.isHeldUp ? heldUpMs + LOOK_MS : sendingMsMax === Infinity ? 0 : heldUpMs;
      if (heldUpMs > heldUpMsMax || (sendingMs > sendingMsMax && isBehind)) {
        stream.destroy(
          new PgarkError(
            'postgres-unreachable',
            'the stream was ended so that the server need not wait for what is not taken',
          ),
        );
        return;
      }
      await this.#clock.sleep(LOOK_MS, this.#ended.signal);
    }
  }
}
