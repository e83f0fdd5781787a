import type { ServerPosition } from '../../postgres/replication/caught-up.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { ServerTime } from '../../postgres/wal/server-time.ts';

/** What the server says is kept this often at the most, in microseconds. */
const SAMPLE_GAP_US = 1_000_000n;
/** Beyond it they are kept half as often: of many hours behind, a minute is exact enough. */
const SAMPLES_MAX = 4_096;
/** A clock that goes back by less was set right in passing; by more, it was wrong, and with it what was known by it. */
const STEP_US = 60_000_000n;
const LEAPS_MAX = 64;

/**
 * Up to which moment, by the server's clock, everything that was committed is archived: the last one at which the server had
 * no WAL behind what is archived by now.
 */
export class Coverage {
  #samples: ServerPosition[] = [];
  #gapUs = SAMPLE_GAP_US;
  #archived: Lsn = 0n;
  #until: ServerTime | undefined;
  /** Each moment that was covered before one much later, since that may be a clock's that is wrong. */
  #leaps: ServerTime[] = [];
  /** When something was said last. */
  #saidAt: ServerTime | undefined;

  /** Undefined until something is known. */
  get until(): ServerTime | undefined {
    return this.#until;
  }

  /** By its clock the server had WAL up to there. */
  told(position: ServerPosition): void {
    if (this.#saidAt !== undefined && position.time < this.#saidAt) this.#goBack(position.time);
    this.#saidAt = position.time;
    if (position.end <= this.#archived) {
      this.#cover(position.time);
      return;
    }
    const last = this.#samples.at(-1);
    if (last !== undefined && position.time - last.time < this.#gapUs) return;
    this.#samples.push(position);
    if (this.#samples.length <= SAMPLES_MAX) return;
    this.#gapUs *= 2n;
    this.#samples = this.#samples.filter((_, index) => index % 2 === 0);
  }

  /** Everything before the position is archived. */
  archived(lsn: Lsn): void {
    this.#archived = lsn;
    const covered = this.#samples.filter(({ end }) => end <= lsn);
    this.#samples = this.#samples.filter(({ end }) => end > lsn);
    if (this.#samples.length === 0) this.#gapUs = SAMPLE_GAP_US;
    for (const { time } of covered) this.#cover(time);
  }

  /** What is said comes in order: the newest counts. */
  #cover(time: ServerTime): void {
    if (this.#until !== undefined && time - this.#until > STEP_US) {
      this.#leaps.push(this.#until);
      if (this.#leaps.length > LEAPS_MAX) this.#leaps.shift();
    }
    this.#until = time;
  }

  /** The clock shows an earlier time than before: what is known of later ones is known of no moment that there was. */
  #goBack(time: ServerTime): void {
    this.#samples = this.#samples.filter((sample) => sample.time <= time);
    this.#leaps = this.#leaps.filter((leap) => leap <= time);
    if (this.#until === undefined || this.#until <= time) return;
    this.#until = this.#until - time <= STEP_US ? time : this.#leaps.pop();
  }
}
