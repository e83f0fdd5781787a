import { beforeAll, describe, expect, test } from 'vitest';
import { at, HistoryPlace, HOUR_MS, plan, REFUSAL, walOf } from '../../test/support/protection.ts';
import { TellingPlace } from '../../test/support/telling.ts';
import type { Config } from '../config/model.ts';
import type { Digest } from '../notify/digest.ts';
import { digestTitle } from '../notify/digest-text.ts';
import { buildProtectionState, type ProtectionInputs } from '../observability/protection-state.ts';
import { operationContext } from '../operations/context.ts';
import { listRuns } from '../operations/list-runs.ts';
import { type DigestInputs, digestOf, noteOf } from './digest-of.ts';

const NOW = at('2026-11-20T08:00:00Z');
const ago = (hours: number): Date => new Date(NOW.getTime() - hours * HOUR_MS);
const FIRST = ago(7 * 24);

/** `shop` tells ops, `quiet` tells nobody; both have a job to r2 and nas, or r2. */
let config: Config;
beforeAll(async () => {
  await using place = await TellingPlace.open({ shop: 'wal: { to: [r2] }' });
  config = place.config;
});

/** A storage r2 whose history a test has written, seen at eight in the morning. */
async function digestFor(
  write: (place: HistoryPlace) => Promise<unknown>,
  said: {
    readonly inputs?: Partial<ProtectionInputs>;
    readonly last?: DigestInputs['last'];
    readonly problems?: DigestInputs['problems'];
    readonly runsMax?: number;
  } = {},
): Promise<Digest> {
  const place = new HistoryPlace(NOW);
  await write(place);
  const state = buildProtectionState(await place.inputs(said.inputs));
  const storages = [{ name: 'r2', store: place.store }];
  const request = { storages, since: ago(9 * 24), limit: said.runsMax ?? 1_000, state: undefined, filter: {} };
  const runs = await listRuns(request, operationContext({ clock: place.clock }));
  return digestOf(config, {
    channel: 'ops',
    since: FIRST,
    state,
    runs,
    last: said.last,
    problems: said.problems ?? [],
  });
}

describe('a digest', () => {
  test('of a fresh backup says that all is well, what there is, and how it has grown', async () => {
    const last = { channel: 'ops', until: FIRST.toISOString(), stored: [{ storage: 'r2', bytes: 400 }] };
    const digest = await digestFor((place) => place.backup(ago(6), { bytes: 1_000 }), { last });
    expect(digestTitle(digest)).toBe('shop is protected');
    expect(digest).toMatchObject({
      standing: [],
      databases: [
        { database: 'shop', state: 'protected', backups: [{ lastGoodAt: ago(6), count: 1, lastBytes: 1_000 }] },
      ],
      runs: [{ kind: 'backup', succeeded: 1, failed: 0 }],
      storages: [{ storage: 'r2', storedBytes: 1_000, grownBytes: 600 }],
    });
    expect(digest.databases[0]?.backups[0]?.nextRunAt).toEqual(at('2026-11-21T02:00:00Z'));
    expect(noteOf(digest)).toEqual({
      channel: 'ops',
      until: NOW.toISOString(),
      stored: [{ storage: 'r2', bytes: 1_000 }],
    });
  });

  test('names what is overdue, with what to do about it', async () => {
    const digest = await digestFor(async (place) => {
      await place.backup(ago(54));
      await place.run('failed', ago(6), ago(5));
    });
    expect(digestTitle(digest)).toBe('shop needs attention');
    expect(digest.databases).toMatchObject([{ state: 'attention', backups: [{ isOverdue: true }] }]);
    expect(digest.standing).toEqual([
      { sentence: expect.stringContaining('overdue since'), fix: 'look at its last words' },
    ]);
    expect(digest.failures).toMatchObject([{ kind: 'backup', times: 1, storages: ['r2'], isOver: false }]);
  });

  test('counts what failed in the same way as one, and says that it works again', async () => {
    const digest = await digestFor(async (place) => {
      await place.run('failed', ago(54), ago(53));
      await place.run('failed', ago(30), ago(29));
      await place.run('interrupted', ago(20), ago(19));
      await place.run('failed', ago(7 * 24 + 2), ago(7 * 24 + 1));
      await place.backup(ago(6));
    });
    expect(digestTitle(digest)).toBe('shop is protected');
    expect(digest.runs).toEqual([{ kind: 'backup', succeeded: 1, failed: 3 }]);
    expect(digest.failures).toMatchObject([
      { error: { code: 'interrupted' }, times: 1, isOver: true },
      { error: { code: 'dump-failed', hint: 'look at its last words' }, times: 2, lastAt: ago(29), isOver: true },
    ]);
  });

  test('says where more has run than it counts', async () => {
    const write = async (place: HistoryPlace): Promise<void> => {
      await place.backup(ago(30));
      await place.backup(ago(6));
    };
    expect((await digestFor(write)).notes).toEqual([]);
    expect((await digestFor(write, { runsMax: 1 })).notes).toEqual([expect.stringContaining('the newest 1 runs')]);
  });

  test('tells a run that began before its time and ended within, and not one that met another at work', async () => {
    const digest = await digestFor(async (place) => {
      await place.backup(ago(7 * 24 + 1), { minutes: 120 });
      await place.backup(ago(6));
      const error = { code: 'locked', message: 'another run is at work', hint: '', exit: 5 };
      await place.run('failed', ago(5), ago(4), { error });
    });
    expect(digest.runs).toEqual([{ kind: 'backup', succeeded: 2, failed: 0 }]);
    expect(digest.failures).toEqual([]);
  });

  test.each(['verify', 'drill'] as const)('takes a %s that failed last for a database in need', async (kind) => {
    const write = async (place: HistoryPlace): Promise<void> => {
      await place.backup(ago(6));
      await place.run('failed', ago(5), ago(4), { kind });
    };
    const digest = await digestFor(write);
    expect(digestTitle(digest)).toBe('shop needs attention');
    expect(digest.standing).toEqual([
      {
        sentence: expect.stringMatching(/^shop: the last .* failed: pg_dump was killed$/),
        fix: 'look at its last words',
      },
    ]);
    const again = await digestFor(async (place) => {
      await write(place);
      await place.run('succeeded', ago(3), ago(2), { kind });
    });
    expect(digestTitle(again)).toBe('shop is protected');
    expect(again.runs).toContainEqual({ kind, succeeded: 1, failed: 1 });
  });

  test.each(['verify', 'drill'] as const)(
    'takes a %s that failed before the last digest for one, until it is over',
    async (kind) => {
      const open = {
        event: `${kind}_failed`,
        source: 'shop',
        database: 'shop',
        storage: 'r2',
        since: ago(400).toISOString(),
        lastSeenAt: ago(200).toISOString(),
        timesSeen: 2,
        told: [],
      };
      const of = (problem: DigestInputs['problems'][number]): Promise<Digest> =>
        digestFor((place) => place.backup(ago(6)), { problems: [problem] });
      const digest = await of(open);
      expect(digestTitle(digest)).toBe('shop needs attention');
      expect(digest.databases).toMatchObject([{ state: 'attention' }]);
      expect(digest.standing).toEqual([
        { sentence: expect.stringMatching(/^shop: the .* of 2026-11-12.* failed, and none/), fix: expect.any(String) },
      ]);
      for (const other of [
        { ...open, endedAt: ago(3).toISOString() },
        { ...open, storage: 'sold' },
        { ...open, database: 'dropped' },
        { ...open, source: 'quiet' },
        { ...open, event: 'wal_gap' },
      ])
        expect(digestTitle(await of(other))).toBe('shop is protected');
      const both = await digestFor(
        async (place) => {
          await place.backup(ago(6));
          await place.run('failed', ago(5), ago(4), { kind });
        },
        { problems: [open] },
      );
      expect(both.standing).toEqual([
        { sentence: expect.stringContaining('pg_dump was killed'), fix: expect.any(String) },
      ]);
    },
  );

  test.each(['verify', 'drill'] as const)('takes no %s for broken that was interrupted', async (kind) => {
    const digest = await digestFor(async (place) => {
      await place.backup(ago(6));
      await place.run('interrupted', ago(5), ago(4), { kind });
    });
    expect(digestTitle(digest)).toBe('shop is protected');
    expect(digest.failures).toMatchObject([{ kind, error: { code: 'interrupted' } }]);
  });

  test('takes a suspicious newest backup for a database in need, once', async () => {
    const suspicions = [{ rule: 'size_change', message: 'it is 75% less than the one before' }];
    const digest = await digestFor((place) => place.backup(ago(6), { suspicions }));
    expect(digest.databases).toMatchObject([{ state: 'attention' }]);
    expect(digest.standing).toEqual([
      { sentence: expect.stringContaining('75% less'), fix: expect.stringContaining('pgark accept') },
    ]);
    expect(digest.notes).toEqual([]);
  });

  test('says how far WAL is, and what is wrong with it', async () => {
    const storages = [{ storage: 'r2', lagMs: HOUR_MS, refuses: { since: ago(1), failure: REFUSAL } }];
    const wal = [walOf({ lagMs: HOUR_MS, latest: ago(1), earliest: ago(24), gaps: 1, storages })];
    const digest = await digestFor((place) => place.backup(ago(6)), { inputs: { wal } });
    expect(digest.wal).toMatchObject([{ source: 'shop', isInTime: false, lossMs: HOUR_MS, latest: ago(1), gaps: 1 }]);
    expect(digest.standing).toEqual([{ sentence: expect.stringContaining('AccessDenied'), fix: 'grant s3:PutObject' }]);
    expect(digest.databases).toMatchObject([{ state: 'attention' }]);
  });

  test('is of the databases alone that tell its channel', async () => {
    const plans = [plan(), plan({ source: 'quiet', database: 'quiet' })];
    const wal = [walOf({ source: 'quiet' })];
    const probes = [{ kind: 'database' as const, name: 'quiet', at: NOW, failure: 'it is away' }];
    const digest = await digestFor(
      async (place) => {
        await place.backup(ago(6));
        await place.run('failed', ago(5), ago(4), { source: 'quiet', database: 'quiet' });
      },
      { inputs: { plans, wal, probes } },
    );
    expect(digestTitle(digest)).toBe('shop is protected');
    expect(JSON.stringify(digest)).not.toContain('quiet');
  });

  test.each([
    [
      'whose server does not answer',
      { probes: [{ kind: 'database' as const, name: 'shop', at: NOW, failure: 'away' }] },
    ],
    ['whose storage does not answer', { probes: [{ kind: 'storage' as const, name: 'r2', at: NOW, failure: 'away' }] }],
    ['whose server nobody tries any more', { probes: [{ kind: 'database' as const, name: 'shop', at: ago(1) }] }],
  ])('takes a database for one in need %s', async (_, inputs) => {
    const digest = await digestFor((place) => place.backup(ago(6)), { inputs });
    expect(digestTitle(digest)).toBe('shop needs attention');
    expect(digest.databases).toMatchObject([{ state: 'attention' }]);
    expect(digest.standing).toHaveLength(1);
  });

  test('takes a database for one in need where one of its storages was not read, or not for long', async () => {
    const place = new HistoryPlace(NOW);
    await place.backup(ago(6));
    const history = await place.history();
    for (const nas of [undefined, { ...history, readAt: ago(1) }]) {
      const histories = new Map([
        ['r2', history],
        ['nas', nas],
      ]);
      const plans = [plan(), plan({ storage: 'nas' })];
      const digest = await digestFor((other) => other.backup(ago(6)), { inputs: { histories, plans } });
      expect(digestTitle(digest)).toBe('shop needs attention');
    }
  });

  test('does not call protected what is never backed up, nor count what is not scheduled', async () => {
    const never = await digestFor(() => Promise.resolve(), { inputs: { plans: [plan({ every: '' })] } });
    expect(digestTitle(never)).toBe('shop needs attention');
    const dropped = await digestFor(async (place) => {
      await place.backup(ago(6));
      await place.backup(ago(2_000), { database: 'dropped' });
    });
    expect(digestTitle(dropped)).toBe('shop is protected');
    expect(dropped.databases).toContainEqual(expect.objectContaining({ database: 'dropped', state: 'unscheduled' }));
  });

  test('knows nothing good of a storage that cannot be read', async () => {
    const digest = await digestFor(() => Promise.resolve(), { inputs: { histories: new Map([['r2', undefined]]) } });
    expect(digestTitle(digest)).toBe('shop needs attention');
    expect(digest.standing).toContainEqual(
      expect.objectContaining({ sentence: expect.stringContaining('storage r2: what lies in it could not be read') }),
    );
    expect(digest.storages).toEqual([{ storage: 'r2' }]);
  });
});
