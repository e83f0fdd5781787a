import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import { PgarkError, systemCodeOf } from '../../common/errors.ts';
import type { Random } from '../../common/random.ts';
import { claimFileName, isClaimFileName } from './layout.ts';
import { ABSENT, unless } from './system-errors.ts';

/**
 * Compare and swap on files, between processes and hosts, without locks that somebody has to release.
 *
 * Who wants to write an object puts the complete new content into a file with a name of its own, the *claim*, in the
 * object's work folder; then looks for other claims there; and only when there is none looks at the object and, if it is
 * as expected, renames the claim onto it. The claim is both the lock and the new content, so that one rename commits and
 * releases.
 *
 * Why two writers cannot both commit on the strength of the same old object: a claim lies in the folder from its
 * announcement to its commit. Of two writers, the one that announces second lists the folder afterwards. Either it sees
 * the first one's claim and does not go on, or that claim has been committed by then, and the look at the object, which
 * comes after the list, shows the new content.
 *
 * A writer that died leaves its claim. Who has seen the same claim for `staleMs` removes it by its name, which is nobody
 * else's. If its writer was not dead but paused, its rename fails (ENOENT), whatever others did meanwhile: it cannot
 * commit late. Nothing depends on clocks of different machines.
 */
export interface ClaimSettings {
  readonly clock: Clock;
  readonly random: Random;
  /** A claim that lies there for so long belongs to a writer that died. A live one takes milliseconds. */
  readonly staleMs: number;
}

/** Pause of a writer that looks again, in milliseconds, with jitter. */
const LOOK_AGAIN_MS = 4;
/** After so many times `staleMs` of waiting for others, a writer gives up. */
const WAIT_STALES_MAX = 6;

/** Remembers since when each rival's claim has been seen, by this process's own steady clock. */
class RivalWatch {
  readonly #folder: string;
  readonly #settings: ClaimSettings;
  readonly #firstSeenMs = new Map<string, number>();
  readonly #beganMs: number;

  constructor(folder: string, settings: ClaimSettings) {
    this.#folder = folder;
    this.#settings = settings;
    this.#beganMs = settings.clock.monotonicMs();
  }

  /** Names of the live claims there but the own one; those of the dead are removed first. */
  async rivals(own: string | undefined): Promise<string[]> {
    const names = (await unless(ABSENT, () => readdir(this.#folder))) ?? [];
    const nowMs = this.#settings.clock.monotonicMs();
    const live: string[] = [];
    for (const name of names) {
      if (name === own || !isClaimFileName(name)) continue;
      const seenMs = this.#firstSeenMs.get(name) ?? nowMs;
      this.#firstSeenMs.set(name, seenMs);
      // Removed or committed in this very instant: either way it cannot be committed any more.
      if (nowMs - seenMs >= this.#settings.staleMs) await rm(join(this.#folder, name), { force: true });
      else live.push(name);
    }
    return live;
  }

  async pause(signal: AbortSignal | undefined): Promise<void> {
    const { clock, random, staleMs } = this.#settings;
    if (clock.monotonicMs() - this.#beganMs > WAIT_STALES_MAX * staleMs) {
      throw new PgarkError('store-failed', 'other processes keep writing the same object, and none lets this one in', {
        hint: 'end the other processes that write to this storage directory, then run the command again',
      });
    }
    await clock.sleep(LOOK_AGAIN_MS * (0.5 + random.fraction()), signal);
  }
}

/** Waits until no claim is left in the folder, without announcing one: that needs no room on the disk. */
export async function waitForClaims(folder: string, settings: ClaimSettings, signal?: AbortSignal): Promise<void> {
  const watch = new RivalWatch(folder, settings);
  while ((await watch.rivals(undefined)).length > 0) await watch.pause(signal);
}

/** Renames; false if the file to rename is gone. */
async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT' && (await unless(ABSENT, () => lstat(from))) === undefined) return false;
    throw error;
  }
}

/**
 * Turns the file `fileName` in the work folder into a claim and waits until it is the only one. Gives the claim's name;
 * undefined if the file was removed by others meanwhile (this process was paused for long, or the upload was aborted).
 * When it throws, the file may have either name: both are the caller's to remove, see `names`.
 */
export async function claim(
  folder: string,
  fileName: string,
  settings: ClaimSettings,
  names: Set<string>,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const watch = new RivalWatch(folder, settings);
  for (;;) {
    signal?.throwIfAborted();
    // A new name each time: what others have seen for long is a claim that nobody moves.
    const own = claimFileName(settings.random);
    names.add(own);
    if (!(await moved(join(folder, fileName), join(folder, own)))) return undefined;
    for (;;) {
      signal?.throwIfAborted();
      const rivals = await watch.rivals(own);
      if (rivals.length === 0) return own;
      // Of several that see each other, the one with the least name stays and the others step back.
      if (rivals.some((rival) => rival < own)) break;
      await watch.pause(signal);
    }
    if (!(await moved(join(folder, own), join(folder, fileName)))) return undefined;
    names.delete(own);
    await watch.pause(signal);
  }
}
