import { link, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../common/clock.ts';
import { systemRandom } from '../../common/random.ts';
import type { WriteCondition } from '../object-store.ts';
import { claim, waitForClaims } from './claims.ts';
import { isClaimFileName, workFolder } from './layout.ts';
import { type PublishOutcome, type PublishSettings, publish, publishNew, type Unpublished } from './publish.ts';
import { storeSmall } from './small.ts';
import { finish, openUnfinished } from './unfinished.ts';

const KEY = 'leases/appdb.json';
const noLink = (): Promise<void> => Promise.reject(Object.assign(new Error('no links here'), { code: 'EPERM' }));

/** The steady clock of a process, which a test moves; sleeping moves it too. */
function movableClock(): Clock & { advance(ms: number): void } {
  let nowMs = 0;
  return {
    now: () => new Date(nowMs),
    monotonicMs: () => nowMs,
    advance: (ms) => {
      nowMs += ms;
    },
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      nowMs += ms;
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

describe('claims', () => {
  let root = '';
  beforeEach(async () => {
    root = await mkdtemp(join(await realpath(tmpdir()), 'pgark-claims-'));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  const settings = (more: Partial<PublishSettings> = {}): PublishSettings => ({
    clock: movableClock(),
    random: systemRandom,
    staleMs: 1_000,
    link,
    ...more,
  });
  const written = async (text: string): Promise<Unpublished> => {
    const { fileName, handle } = await openUnfinished(root, KEY, systemRandom);
    await handle.writeFile(text);
    const { ino } = await finish(handle, text.length, 'write');
    await handle.close();
    return { root, key: KEY, fileName, inode: ino };
  };
  const put = async (text: string, condition?: WriteCondition): Promise<string> => {
    const info = await storeSmall(root, KEY, Buffer.from(text), condition, settings());
    return info?.etag ?? 'refused';
  };
  const content = (): Promise<string> => readFile(join(root, KEY), 'utf8');
  const workFiles = async (): Promise<string[]> => readdir(workFolder(root, KEY)).catch(() => []);
  const claimed = (file: Unpublished): Promise<string | undefined> =>
    claim(workFolder(root, KEY), file.fileName, settings(), new Set());

  /** A writer that is stopped after it announced its claim and found no other, until `wake`. */
  const pausedWriter = async (
    text: string,
    condition: WriteCondition | undefined,
  ): Promise<{ wake: () => void; outcome: Promise<PublishOutcome> }> => {
    const file = await written(text);
    const reached = Promise.withResolvers<void>();
    const woken = Promise.withResolvers<void>();
    const outcome = publish(
      file,
      condition,
      settings({
        link: async (from, to) => {
          reached.resolve();
          await woken.promise;
          await link(from, to);
        },
      }),
    );
    await reached.promise;
    return { wake: woken.resolve, outcome };
  };

  test('of a writer that died are removed once they have been seen for the term', async () => {
    const dead = await claimed(await written('dead'));
    expect(await workFiles()).toEqual([dead]);
    const clock = movableClock();
    await storeSmall(root, KEY, Buffer.from('alive'), undefined, settings({ clock }));
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(1_000);
    expect(await content()).toBe('alive');
    expect(await workFiles()).toEqual([]);
  });

  test('of a writer that lives are waited for', async () => {
    const first = await written('first');
    const live = await claimed(first);
    expect(live).toBeDefined();
    const clock = movableClock();
    const second = storeSmall(root, KEY, Buffer.from('second'), { ifAbsent: true }, settings({ clock, staleMs: 1e9 }));
    while (clock.monotonicMs() < 100) await new Promise((resolve) => setImmediate(resolve));
    expect(await workFiles()).toContain(live);
    await rm(join(workFolder(root, KEY), live ?? ''));
    expect(await second).toBeDefined();
    expect(await content()).toBe('second');
  });

  test('of a writer that was paused past the term cannot be committed late', async () => {
    const paused = await pausedWriter('from the past', { ifAbsent: true });
    expect(await put('the new holder', { ifAbsent: true })).not.toBe('refused');
    paused.wake();
    expect(await paused.outcome).toBe('removed');
    expect(await content()).toBe('the new holder');
  });

  test('of a paused writer are not committed even where the object is gone again', async () => {
    const paused = await pausedWriter('from the past', { ifAbsent: true });
    await put('the new holder', { ifAbsent: true });
    await rm(join(root, KEY));
    paused.wake();
    expect(await paused.outcome).toBe('removed');
    await expect(content()).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('of a paused writer do not carry another writer’s content into place', async () => {
    const paused = await pausedWriter('from the past', { ifAbsent: true });
    const etag = await put('holder', { ifAbsent: true });
    const third = await claimed(await written('third, not committed yet'));
    paused.wake();
    expect(await paused.outcome).toBe('removed');
    expect(await content()).toBe('holder');
    expect(await workFiles()).toEqual([third]);
    expect(await put('holder, renewed', { ifMatch: etag })).not.toBe('refused');
  });

  test('are refused to an aborted writer, which leaves nothing', async () => {
    await claimed(await written('in the way'));
    const controller = new AbortController();
    const clock: Clock = {
      ...movableClock(),
      sleep: (_ms, signal) => {
        controller.abort(new Error('stopped'));
        return Promise.reject(signal?.reason as Error);
      },
    };
    const run = storeSmall(
      root,
      KEY,
      Buffer.from('x'),
      undefined,
      settings({ clock, staleMs: 1e9 }),
      controller.signal,
    );
    await expect(run).rejects.toThrow('stopped');
    expect(await workFiles()).toHaveLength(1);
    await expect(content()).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('that never leave make a writer give up, and it says why', async () => {
    const clock = movableClock();
    const random = systemRandom;
    await claimed(await written('0'));
    // Another one each time, so that none has been seen for long.
    const restless: Clock = {
      ...clock,
      sleep: async (ms) => {
        clock.advance(ms * 100);
        for (const name of await workFiles()) {
          if (isClaimFileName(name)) await rm(join(workFolder(root, KEY), name));
        }
        await claim(workFolder(root, KEY), (await written('n')).fileName, { clock, random, staleMs: 0 }, new Set());
      },
    };
    await expect(
      waitForClaims(workFolder(root, KEY), { clock: restless, random, staleMs: 1_000 }),
    ).rejects.toMatchObject({
      code: 'store-failed',
    });
  });

  describe('on a file system without links', () => {
    const settingsOfFat = (): PublishSettings => settings({ link: noLink, clock: systemClock });

    test('create an object once', async () => {
      expect(await publishNew(await written('first'), settingsOfFat())).toBe('published');
      expect(await publishNew(await written('second'), settingsOfFat())).toBe('refused');
      expect(await content()).toBe('first');
      expect(await workFiles()).toEqual([]);
    });

    test('have one winner of many', async () => {
      const files = await Promise.all(Array.from({ length: 8 }, (_, racer) => written(`racer ${racer}`)));
      const outcomes = await Promise.all(
        files.map((file, racer) =>
          racer % 2 === 0 ? publishNew(file, settingsOfFat()) : publish(file, { ifAbsent: true }, settingsOfFat()),
        ),
      );
      expect(outcomes.filter((outcome) => outcome === 'published')).toHaveLength(1);
      expect(await content()).toBe(`racer ${outcomes.indexOf('published')}`);
      expect(await workFiles()).toEqual([]);
    });
  });

  test('whose link was made, but whose answer was lost, count as committed', async () => {
    const lostAnswer = async (from: string, to: string): Promise<void> => {
      await link(from, to);
      await link(from, to);
    };
    expect(await publishNew(await written('stored'), settings({ link: lostAnswer }))).toBe('published');
    expect(await publishNew(await written('another'), settings({ link: lostAnswer }))).toBe('refused');
    expect(await content()).toBe('stored');
  });
});
