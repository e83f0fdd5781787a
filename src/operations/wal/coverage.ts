import type { ServerPosition } from '../../postgres/replication/caught-up.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { ServerTime } from '../../postgres/wal/server-time.ts';

/** What the server says is kept this often at the most, in microseconds. */
const SAMPLE_GAP_US = 1_000_000n;
/** Beyond it they are kept half as often: of many hours behind, a minute is exact enough. */
const SAMPLES_MAX = 4_096;

/**
 * Up to which moment, by the server's clock, everything that was committed is archived: the last one at which the server had
 * no WAL behind what is archived by now.
 */
export class Coverage {
  #samples: ServerPosition[] = [];
  #gapUs = SAMPLE_GAP_US;
  #archived: Lsn = 0n;
  #until: ServerTime | undefined;

  /** Undefined until something is known. */
  get until(): ServerTime | undefined {
    return this.#until;
  }

  /** By its clock the server had WAL up to there. */
  told(position: ServerPosition): void {
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

  #cover(time: ServerTime): void {
    if (this.#until === undefined || time > this.#until) this.#until = time;
  }
}
