import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { hang, status } from '../../test/support/http-receiver.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { HistoryPlace } from '../../test/support/protection.ts';
import { HOOK_SECRET, TellingPlace } from '../../test/support/telling.ts';
import { PgarkError } from '../common/errors.ts';
import { keys } from '../repository/keys.ts';
import type { ObjectInfo, PutSmallOptions } from '../storage/object-store.ts';
import type { BackupReport } from './reports.ts';

const at = new Date('2026-11-20T02:00:05Z');
const everyLine: string[] = [];
const everyKept: string[] = [];
let place: TellingPlace | undefined;

beforeEach(() => {
  place = undefined;
  return async () => {
    everyLine.push(...(place?.lines ?? []));
    for (const name of ['r2', 'nas']) everyKept.push(JSON.stringify(place?.kept(name) ?? null));
    await place?.[Symbol.asyncDispose]();
  };
});

async function open(options: Parameters<typeof TellingPlace.open>[0] = {}): Promise<TellingPlace> {
  place = await TellingPlace.open(options);
  return place;
}

function report(said: Partial<BackupReport> = {}): BackupReport {
  return {
    source: 'shop',
    database: 'shop',
    job: 'nightly',
    storage: 'r2',
    runId: '01KAFZJHDJ6YV1T1Y2Z3A4B5C6',
    startedAt: new Date('2026-11-20T02:00:00Z'),
    endedAt: at,
    ...said,
  };
}

function both(said: Partial<BackupReport> = {}): readonly BackupReport[] {
  return [report(said), report({ ...said, storage: 'nas' })];
}

const denied = new PgarkError('store-access-denied', 'AccessDenied', { hint: 'grant s3:PutObject' });

describe('a failure', () => {
  test('is told once, whichever process meets it next, and so is its end', async () => {
    const { config, texts, teller, kept } = bound(await open());
    await teller().backups(config, both({ error: denied }));
    expect(texts()).toHaveLength(2);
    expect(texts()[0]).toContain('AccessDenied');
    await teller().backups(config, both({ error: denied }));
    expect(texts()).toHaveLength(2);
    await teller().backups(config, both());
    expect(texts()).toHaveLength(3);
    expect(texts()[2]).toMatch(/works again|recovered|again/);
    expect(kept('r2')).toMatchObject({ layout: 1, problems: [] });
    expect(kept('nas')).toEqual(kept('r2'));
  });

  test('of one destination is not ended by a success of another one alone, nor by --to', async () => {
    const { config, texts, teller, kept } = bound(await open({ on: '[failure, recovery]' }));
    await teller().backups(config, [report(), report({ storage: 'nas', error: denied })]);
    expect(texts()).toHaveLength(1);
    await teller().backups(config, [report()]);
    expect(texts()).toHaveLength(1);
    expect(kept('r2')).toMatchObject({ problems: [{ event: 'failure', storage: 'nas', timesSeen: 1 }] });
    await teller().backups(config, both());
    expect(texts()).toHaveLength(2);
  });

  test('says how old the newest backup is that lies there', async () => {
    const { config, texts, teller, self } = bound(await open());
    const history = new HistoryPlace(at);
    await history.backup(new Date('2026-11-19T02:00:00Z'));
    self.stores.set('r2', history.store);
    await teller().backups(config, both({ error: denied }));
    expect(texts()[0]).toContain('Last good copy 24 h ago');
    expect(texts()[1]).toMatch(/no good copy|never/i);
  });

  test('of an interrupted run is told; one that met another run at work is not', async () => {
    const { config, texts, teller } = bound(await open());
    await teller().backups(config, both({ error: new PgarkError('locked', 'another run works on it') }));
    expect(texts()).toHaveLength(0);
    await teller().backups(config, both({ error: new PgarkError('interrupted', 'it was interrupted') }));
    expect(texts()[0]).toContain('it was interrupted');
  });
});

describe('a success', () => {
  test('of all destinations is one message, of some of them one each', async () => {
    const { config, texts, teller } = bound(await open({ type: 'webhook' }));
    await teller().backups(config, both({ backupId: '20261120T020000Z-pabcdef' }));
    expect(texts().map(dataOf)).toEqual([expect.objectContaining({ event: 'success', database: 'shop' })]);
    expect(dataOf(texts()[0])).not.toHaveProperty('storage');
    await teller().backups(config, [report(), report({ storage: 'nas', error: denied })]);
    expect(texts().slice(1).map(dataOf)).toEqual([
      expect.objectContaining({ event: 'success', storage: 'r2' }),
      expect.objectContaining({
        event: 'failure',
        storage: 'nas',
        error: expect.objectContaining({ code: denied.code }),
      }),
    ]);
  });

  test('is one ping for a watchdog, with a start before it', async () => {
    const { config, teller, self } = bound(await open({ type: 'healthchecks' }));
    const own = teller();
    await own.starts(config, [report()]);
    await own.backups(config, [
      report({ runId: '01KAFZJHDJ6YV1T1Y2Z3A4B5C7' }),
      report({ storage: 'nas', error: denied }),
    ]);
    await own.backups(config, both());
    const paths = self.receiver.requests.map(({ url }) => url.split('?')[0]?.replace(`/${HOOK_SECRET}`, ''));
    expect(paths).toEqual(['/start', '/fail', '']);
  });

  test('writes nothing where nothing was wrong, and looks up nothing where nobody is told', async () => {
    const { config, texts, teller, kept, self } = bound(await open({ on: '[failure]' }));
    await teller().backups(config, both());
    await teller().backups(config, [report({ source: 'quiet', database: 'quiet', error: denied })]);
    expect(texts()).toHaveLength(0);
    expect(kept('r2')).toBeUndefined();
    expect(self.opened).toEqual(['r2', 'nas']);
  });
});

describe('what was told', () => {
  test('is kept in the second storage while the first one is away, and not forgotten when it is back', async () => {
    const { config, texts, teller, kept, self } = bound(await open({ on: '[failure, recovery]' }));
    const r2 = new MemoryStore();
    self.stores.delete('r2');
    await teller().backups(config, [report({ error: denied }), report({ storage: 'nas' })]);
    await teller().backups(config, [report({ error: denied }), report({ storage: 'nas' })]);
    expect(texts()).toHaveLength(1);
    expect(kept('nas')).toMatchObject({ revision: 2 });
    self.stores.set('r2', r2);
    await teller().backups(config, both());
    expect(texts()).toHaveLength(2);
    expect(kept('r2')).toMatchObject({ revision: 3, problems: [] });
    await teller().backups(config, both());
    expect(texts()).toHaveLength(2);
  });

  test('in an older copy counts less than in a newer one, wherever they lie', async () => {
    const { config, texts, teller, kept, self } = bound(await open({ on: '[failure, recovery]' }));
    const [r2] = [...self.stores.values()];
    for (let time = 0; time < 3; time += 1)
      await teller().backups(config, [report(), report({ storage: 'nas', error: denied })]);
    expect(texts()).toHaveLength(1);
    expect([kept('r2')?.['revision'], kept('nas')?.['revision']]).toEqual([3, 3]);
    self.stores.delete('r2');
    await teller().backups(config, both());
    expect(texts()).toHaveLength(2);
    // The copy of r2 says that nas is failing, which is over and has been told.
    if (r2 !== undefined) self.stores.set('r2', r2);
    await teller().backups(config, both());
    expect(texts()).toHaveLength(2);
    self.stores.delete('r2');
    await teller().backups(config, [report({ error: denied }), report({ storage: 'nas' })]);
    expect(texts()).toHaveLength(3);
    if (r2 !== undefined) self.stores.set('r2', r2);
    for (let time = 0; time < 2; time += 1) await teller().backups(config, both());
    expect(texts()).toHaveLength(4);
  });

  test('is remembered by the process while no storage takes it, and written when one does', async () => {
    const { config, texts, teller, kept, self } = bound(await open({ on: '[failure, recovery]' }));
    const stores = new Map(self.stores);
    self.stores.clear();
    const daemon = teller();
    for (let run = 0; run < 3; run += 1) await daemon.backups(config, both({ error: denied }));
    expect(texts()).toHaveLength(2);
    expect(self.lines.filter((line) => line.includes('notification.state_unkept'))).not.toHaveLength(0);
    for (const [name, store] of stores) self.stores.set(name, store);
    await daemon.backups(config, both());
    expect(texts()).toHaveLength(3);
    expect(kept('r2')).toMatchObject({ problems: [] });
  });

  test('by two processes at once is kept of both', async () => {
    const { config, texts, teller, kept, self } = bound(await open({ on: '[failure]' }));
    let other: (() => Promise<void>) | undefined = async () => {
      await teller().backups(config, [report({ storage: 'nas', error: denied })]);
    };
    self.stores.set(
      'r2',
      new (class extends MemoryStore {
        override async putSmall(key: string, body: Uint8Array, options: PutSmallOptions = {}): Promise<ObjectInfo> {
          const between = key === keys.notifications ? other : undefined;
          if (between !== undefined) other = undefined;
          await between?.();
          return super.putSmall(key, body, options);
        }
      })(),
    );
    await teller().backups(config, [report({ error: denied })]);
    expect(texts()).toHaveLength(2);
    expect(kept('r2')).toMatchObject({
      revision: 2,
      problems: [expect.objectContaining({ storage: 'nas' }), expect.objectContaining({ storage: 'r2' })],
    });
  });

  test('by a newer version is not written over', async () => {
    const { config, texts, teller, kept, self } = bound(await open());
    const body = new TextEncoder().encode('{"layout":2}');
    await self.stores.get('r2')?.putSmall(keys.notifications, body);
    await teller().backups(config, both({ error: denied }));
    expect(texts()).toHaveLength(2);
    expect(kept('r2')).toEqual({ layout: 2 });
    expect(kept('nas')).toMatchObject({ layout: 1 });
  });
});

describe('a receiver', () => {
  test('that does not take messages changes nothing but the count and the log; the next run tries again', async () => {
    const { config, texts, teller, self } = bound(await open({ answers: [status(500), status(500), status(200)] }));
    const own = teller();
    await own.backups(config, both({ error: denied }));
    expect(own.failures).toBe(2);
    expect(self.lines.filter((line) => line.includes('"notification.failed"'))).toHaveLength(2);
    await own.backups(config, both({ error: denied }));
    expect(own.failures).toBe(2);
    expect(texts()).toHaveLength(4);
  });

  test('that hangs holds nobody up for longer than the budget, and the state is kept all the same', async () => {
    const { config, teller, kept } = bound(await open({ answers: [hang] }));
    const own = teller({ budgetMs: 1_200 });
    const startedMs = performance.now();
    await own.backups(config, both({ error: denied }));
    // By itself, a channel is waited for ten seconds.
    expect(performance.now() - startedMs).toBeLessThan(9_000);
    expect(own.failures).toBe(2);
    expect(kept('r2')).toMatchObject({
      problems: [
        { storage: 'r2', told: [] },
        { storage: 'nas', told: [] },
      ],
    });
  });

  test('that hangs is not told of a start any more once the process is to end', async () => {
    const { config, teller } = bound(await open({ type: 'webhook', answers: [hang] }));
    const hurry = new AbortController();
    const starting = teller({ hurry: hurry.signal }).starts(config, [report()]);
    const startedMs = performance.now();
    setTimeout(() => hurry.abort(new Error('received SIGTERM')), 200);
    await starting;
    expect(performance.now() - startedMs).toBeLessThan(9_000);
  });

  test('is told although a storage hangs', async () => {
    const { config, texts, teller, kept, self } = bound(await open());
    self.stores.set(
      'r2',
      new (class extends MemoryStore {
        override async get(_key: string, options: { signal?: AbortSignal } = {}): Promise<never> {
          return new Promise((_, reject) => {
            options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error));
          });
        }
      })(),
    );
    await teller({ budgetMs: 4_000 }).backups(config, [report({ storage: 'nas', error: denied })]);
    expect(texts()).toHaveLength(1);
    expect(kept('nas')).toMatchObject({ problems: [{ storage: 'nas' }] });
  });
});

describe('pruning', () => {
  test('that is refused is told until it is carried out; its other failures are not', async () => {
    const { config, texts, teller } = bound(await open({ on: '[failure, recovery]' }));
    const refused = new PgarkError('prune-refused', 'it would delete 12 of 14 backups');
    await teller().backups(config, [report({ pruned: { error: refused } })]);
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toContain('12 of 14');
    const prune = { source: 'shop', database: 'shop', storage: 'r2', endedAt: at };
    await teller().prunes(config, [{ ...prune, error: new PgarkError('locked', 'another prune is at work') }]);
    await teller().prunes(config, [{ ...prune, storage: 'nas' }]);
    expect(texts()).toHaveLength(1);
    await teller().prunes(config, [prune]);
    expect(texts()).toHaveLength(2);
  });
});

describe('a verification', () => {
  test('tells of a damaged backup, and of its end only when none is known to be damaged any more', async () => {
    const { config, texts, teller, self } = bound(await open({ on: '[verify_failed, recovery]' }));
    const history = new HistoryPlace(at);
    self.stores.set('r2', history.store);
    const old = await history.backup(new Date('2026-11-18T02:00:00Z'));
    const fresh = await history.backup(new Date('2026-11-19T02:00:00Z'));
    const failure = new PgarkError('corrupt', 'the stored bytes are not those that were written');
    const verification = { storage: 'r2', endedAt: at, damaged: [], complete: true };
    const whole = { manifest: fresh, depth: 'read', failure: undefined } as const;
    await teller().verification(config, {
      ...verification,
      backups: [{ manifest: old, depth: 'read', failure }, whole],
    });
    expect(texts()).toHaveLength(1);
    expect(texts()[0]).toContain('not those that were written');
    const proof = { layout: 1, passed: false, at: at.toISOString() };
    const proofKey = keys.proof('shop', 'shop', old.id, at, 'verify');
    await history.store.putSmall(proofKey, new TextEncoder().encode(JSON.stringify(proof)));
    const present = { manifest: old, depth: 'present', failure: undefined } as const;
    await teller().verification(config, { ...verification, backups: [present, whole] });
    await teller().verification(config, { ...verification, backups: [{ ...present, depth: 'stored' }, whole] });
    await teller().verification(config, { ...verification, backups: [whole], complete: false });
    expect(texts()).toHaveLength(1);
    await history.store.delete(proofKey);
    await teller().verification(config, { ...verification, backups: [present, whole] });
    expect(texts()).toHaveLength(2);
  });

  test('tells of the end of what a storage did not give when all of it is read, also without a key', async () => {
    const { config, texts, teller, self } = bound(await open({ on: '[verify_failed, recovery]' }));
    const history = new HistoryPlace(at);
    self.stores.set('r2', history.store);
    const manifest = await history.backup(new Date('2026-11-18T02:00:00Z'));
    const verification = { storage: 'r2', endedAt: at, damaged: [], complete: true };
    const failure = new PgarkError('store-access-denied', 'AccessDenied (403)');
    const look = async (depth: 'stored' | 'read', failed?: PgarkError): Promise<void> => {
      const backups = [{ manifest, depth, failure: failed }];
      await teller().verification(config, { ...verification, backups });
    };
    await look('read', failure);
    // Nobody could record what was found since then.
    await history.prove(manifest, 'verify', at, { passed: false, error: { code: failure.code } });
    await look('stored');
    expect(texts()).toHaveLength(2);
  });

  test('tells of a manifest that cannot be read', async () => {
    const { config, texts, teller } = bound(await open());
    const key = keys.manifest('shop', 'shop', '20261120T020000Z-pabcdef' as never);
    const error = new PgarkError('repository-damaged', 'it is no JSON');
    const damaged = [{ key, error }];
    await teller().verification(config, { storage: 'r2', endedAt: at, backups: [], damaged, complete: true });
    expect(texts()[0]).toContain('it is no JSON');
  });
});

afterAll(() => {
  expect(everyLine.length).toBeGreaterThan(10);
  expect(`${everyLine.join('')}${everyKept.join('')}`).not.toContain(HOOK_SECRET);
});

function bound(self: TellingPlace) {
  const { config } = self;
  return {
    self,
    config,
    texts: () => self.texts,
    teller: (changes: Parameters<TellingPlace['teller']>[0] = {}) => self.teller(changes),
    kept: (storage: string) => self.kept(storage),
  };
}

function dataOf(body = ''): Record<string, unknown> {
  return (JSON.parse(body) as { data: Record<string, unknown> }).data;
}
