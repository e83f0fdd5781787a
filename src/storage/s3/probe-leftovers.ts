import { messageOf } from '../../common/errors.ts';
import { allOf } from '../../common/in-parallel.ts';
import { cleaningUp } from './abandon.ts';
import type { S3Calls } from './calls.ts';
import { abortUpload, listObjects, listUploads } from './listing.ts';
import { deleteObject } from './small-objects.ts';

/** A probe lasts seconds, minutes with a store that answers hardly; what is older was left by a killed process. */
export const PROBE_STALE_MS = 3_600_000;
/** Of objects and of uploads each, at one time: a next probe goes on. */
const REMOVED_MAX = 100;

const PROBE_NAME = /^[0-9a-f]{16}$/u;

export const probePrefix = (prefix: string): string => `${prefix}.pgark/probe-`;

/**
 * Removes objects and uploads that probes of killed processes left. They are no data and nobody's but pgark's, by their
 * names, so that here an age may decide: by the store's own clock, and never where the store tells no time. What cannot
 * be removed is no reason for anything to fail: never rejects.
 */
export async function removeProbeLeftovers(
  calls: S3Calls,
  options: {
    readonly prefix: string;
    readonly staleMs: number;
    /** Keys of the probe that is going on. */
    readonly own: readonly string[];
    readonly signal: AbortSignal | undefined;
  },
): Promise<void> {
  const { latest } = calls.storeClock;
  if (latest === undefined) return;
  const under = probePrefix(options.prefix);
  const isLeftover = (key: string, since: Date | undefined): boolean =>
    PROBE_NAME.test(key.slice(under.length)) &&
    !options.own.includes(key) &&
    since !== undefined &&
    since.getTime() > 0 &&
    latest.getTime() - since.getTime() > options.staleMs;
  const what = {
    event: 'store.probe-leftovers',
    message: 'looking for leftovers of old probes was given up',
    key: under,
  };
  await cleaningUp(calls, what, async (deadline) => {
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
    try {
      const [objects, uploads] = await allOf([
        removeEach(listObjects(calls, under, { signal }), async ({ key, modified }) => {
          if (!isLeftover(key, modified)) return false;
          await deleteObject(calls, key, signal);
          return true;
        }),
        removeEach(listUploads(calls, under, signal), async (upload) => {
          if (!isLeftover(upload.key, upload.initiated)) return false;
          await abortUpload(calls, upload, signal);
          return true;
        }),
      ]);
      if (objects + uploads === 0) return;
      calls.logger.debug('store.probe-leftovers', `removed ${objects} objects and ${uploads} uploads of old probes`);
    } catch (error) {
      calls.logger.debug('store.probe-leftovers', `leftovers of old probes may remain: ${messageOf(error)}`);
    }
  });
}

/** Stops at the limit; returns how many were removed. */
async function removeEach<Item>(items: AsyncIterable<Item>, remove: (item: Item) => Promise<boolean>): Promise<number> {
  let removed = 0;
  for await (const item of items) {
    if (await remove(item)) removed += 1;
    if (removed === REMOVED_MAX) break;
  }
  return removed;
}
