import { describe, expect, test } from 'vitest';
import { FaultyStore, type StoreCall } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { systemClock } from '../common/clock.ts';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeBackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { serialiseManifest } from '../repository/manifest.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import { type OperationContext, operationContext } from './context.ts';
import { type BackupSelector, findBackup } from './find-backup.ts';

/** A storage with backups; `calls` is what finding one costs. */
class Place {
  readonly memory: MemoryStore;
  readonly calls: StoreCall[] = [];
  readonly store: FaultyStore;
  readonly repository: Repository;
  readonly warnings: string[] = [];
  readonly said: string[] = [];
  readonly context: OperationContext;

  /** `there` is the storage's clock; undefined: it cannot be asked. */
  constructor(location?: string, clocks?: { readonly here: Date; readonly there: Date | undefined }) {
    const warning = (event: string, message: string): void => {
      this.warnings.push(event);
      this.said.push(message);
    };
    this.context = operationContext({
      logger: { ...silentLogger, warning },
      ...(clocks && { clock: new ManualClock(clocks.here) }),
    });
    const there = clocks?.there;
    this.memory = new MemoryStore({
      ...(location !== undefined && { location }),
      ...(there && { clock: { now: () => there } }),
    });
    this.store = new FaultyStore(this.memory, {
      before: (call) => {
        this.calls.push(call);
        if (clocks !== undefined && there === undefined && call.method === 'now')
          throw new PgarkError('store-access-denied', 'read only');
      },
    });
    this.repository = new Repository(this.store, { clock: systemClock, random: systemRandom });
  }

  /** Adds a backup and gives its id. */
  async add(
    startedAt: string,
    options: {
      source?: string;
      database?: string;
      key?: string;
      id?: string;
      format?: 'plain' | 'directory' | 'physical';
      storeTime?: string;
    } = {},
  ) {
    const { source = 'shop', database = 'shop', format = 'plain' } = options;
    const id = makeBackupId(
      new Date(startedAt),
      format === 'physical' ? 'f' : format === 'plain' ? 'p' : 'd',
      systemRandom,
    );
    const key = options.key ?? `${database}_${startedAt}_${id.slice(-6)}.sql.gz`;
    const times = { startedAt, endedAt: startedAt, storeTime: options.storeTime ?? startedAt };
    const manifest = { ...manifestOf(id, database, [key]), ...times, source, format };
    const manifestKey = keys.manifest(source, database, id);
    await this.memory.putSmall(manifestKey, serialiseManifest(manifest));
    await this.memory.putSmall(key, new Uint8Array(1));
    return { id, key, manifestKey };
  }

  async find(selector: BackupSelector, filter: BackupFilter = {}): Promise<string> {
    this.calls.length = 0;
    const found = await findBackup(this.repository, selector, filter, this.context);
    return found.kind === 'own' ? found.manifest.id : found.key;
  }

  named(name: string, filter: BackupFilter = {}): Promise<string> {
    return this.find({ kind: 'name', name }, filter);
  }

  at(time: string): Promise<string> {
    return this.find({ kind: 'at', time: new Date(time) });
  }

  /** Calls beside the one that reads the repository's own record. */
  get cost(): readonly string[] {
    return this.calls.filter(({ key }) => key !== keys.repository).map(({ method }) => method);
  }
}

async function failure(work: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isPgarkError(error)) throw new Error(`no error of pgark: ${String(error)}`);
  return error;
}

describe('finding a backup', () => {
  test('an id, latest and a time each cost one list and one read, however many there are', async () => {
    const place = new Place();
    const ids = [];
    for (let day = 1; day <= 28; day++) {
      ids.push((await place.add(`2026-01-${String(day).padStart(2, '0')}T02:00:00.000Z`)).id);
    }
    expect(await place.named(ids[3] ?? '')).toBe(ids[3]);
    expect(place.cost).toEqual(['list', 'get']);
    expect(await place.find({ kind: 'latest' })).toBe(ids[27]);
    expect(place.cost).toEqual(['list', 'get']);
    expect(await place.at('2026-01-10T12:00:00Z')).toBe(ids[9]);
    expect(place.cost).toEqual(['list', 'get']);
  });

  test('what a clock that was ahead has named is not the newest, unless there is nothing else', async () => {
    const place = new Place();
    const inHours = (hours: number): string => new Date(Date.now() + hours * 3_600_000).toISOString();
    const nextYear = await place.add(inHours(365 * 24), { storeTime: inHours(-1) });
    const tomorrow = await place.add(inHours(24), { storeTime: inHours(-2) });
    // The newest by the time of the store, and never without a word.
    expect(await place.find({ kind: 'latest' })).toBe(nextYear.id);
    expect(place.said).toEqual([expect.stringContaining('2 backups claim')]);
    const old = await place.add('2026-01-01T02:00:00.000Z');
    expect(await place.find({ kind: 'latest' })).toBe(old.id);
    expect(place.warnings).toEqual(['backup.future', 'backup.future']);
    // Another host's clock may be some minutes ahead.
    const young = await place.add(inHours(0.5));
    expect(await place.find({ kind: 'latest' })).toBe(young.id);
    expect(await place.named(nextYear.id)).toBe(nextYear.id);
    expect(await place.at(inHours(25))).toBe(young.id);
    for (const clock of ['was ahead', "storage's behind"]) expect(place.said.at(-1)).toContain(clock);
    expect(place.said.at(-1)).toContain(tomorrow.id);
    // What is not in question is not spoken of.
    place.said.length = 0;
    expect(await place.at('2026-01-02T00:00:00Z')).toBe(old.id);
    expect(place.said).toEqual([]);
  });

  describe.each([
    ['that tells the time', 'right'],
    ['that tells this machine’s time', 'as here'],
    ['that may only be read', 'unknown'],
  ] as const)('in a storage %s', (_what, storeClock) => {
    test.each([
      ['is right', 0, false],
      ['is two hours behind', 2, true],
      ['is 36 hours behind', 36, true],
      ['is ten years behind', 10 * 365 * 24, true],
    ])('the newest is the newest where this machine’s clock %s', async (_state, hoursBehind, isTold) => {
      const now = new Date('2026-11-20T03:00:00Z');
      const here = new Date(now.getTime() - hoursBehind * 3_600_000);
      const place = new Place(undefined, {
        here,
        there: storeClock === 'right' ? now : storeClock === 'as here' ? here : undefined,
      });
      const ids = [];
      for (const day of [18, 19, 20]) ids.push((await place.add(`2026-11-${day}T02:30:00.000Z`)).id);
      // Stored a month before: it would be the newest for 90 days.
      const ahead = await place.add('2027-02-18T02:30:00.000Z', { storeTime: '2026-10-20T02:31:00.000Z' });
      expect(await place.find({ kind: 'latest' })).toBe(ids[2]);
      const ofThisClock = place.said.filter((each) => each.includes("this machine's clock is behind"));
      expect(ofThisClock).toHaveLength(isTold ? 1 : 0);
      for (const each of ofThisClock) expect(each).toContain(ids[2]);
      expect(place.said.filter((each) => each.includes(ahead.id))).toHaveLength(1);
      expect(await place.at('2026-11-19T12:00:00Z')).toBe(ids[1]);
      expect(await place.at('2026-11-20T12:00:00Z')).toBe(ids[2]);
    });
  });

  test('where a clock is behind, a manifest is read only until one tells it', async () => {
    const place = new Place(undefined, { here: new Date('2016-01-01T00:00:00Z'), there: undefined });
    for (let day = 11; day <= 20; day++) await place.add(`2026-11-${day}T02:30:00.000Z`);
    await place.find({ kind: 'latest' });
    expect(place.cost).toEqual(['list', 'now', 'get', 'get']);
  });

  test('a file of another kind among the manifests is no backup, and none of the future', async () => {
    const place = new Place();
    const { id, manifestKey } = await place.add('2026-01-01T02:00:00.000Z');
    await place.memory.putSmall(manifestKey.replace(id, 'notes'), new TextEncoder().encode('{}'));
    expect(await place.find({ kind: 'latest' })).toBe(id);
    expect(place.said).toEqual([]);
  });

  test('who wants to load a database is told of the physical backups that are there', async () => {
    const place = new Place();
    const latest = (): Promise<string> => place.find({ kind: 'latest' }, { kind: 'logical' });
    await expect(latest()).rejects.toMatchObject({ hint: expect.stringContaining('pgark backup makes one') });
    const { id } = await place.add('2026-01-01T02:00:00.000Z', { format: 'physical' });
    await expect(latest()).rejects.toMatchObject({
      code: 'backup-not-found',
      message: expect.stringContaining(`only physical ones such as ${id}`),
      hint: expect.stringContaining('--to-dir'),
    });
  });

  test('a name may be an id, a file name, a key, a URL or the key of the manifest', async () => {
    const place = new Place();
    await place.add('2026-01-02T00:00:00.000Z');
    const backup = await place.add('2026-01-01T00:00:00.000Z', { key: 'folder/a b.sql.gz' });
    for (const name of [
      backup.id,
      'a b.sql.gz',
      'folder/a b.sql.gz',
      'memory:/folder/a b.sql.gz',
      backup.manifestKey,
    ]) {
      expect([name, await place.named(name)]).toEqual([name, backup.id]);
    }
  });

  test.each(['s3://bucket/daily', 's3://bucket/daily/'])('in %s a key may be the whole one', async (location) => {
    const place = new Place(location);
    const backup = await place.add('2026-01-01T00:00:00.000Z', { key: 'folder/a b.sql.gz' });
    await place.memory.putSmall('other/dump.sql', new Uint8Array(1));
    await place.memory.putSmall('daily/dump.sql', new Uint8Array(1));
    await place.memory.putSmall('dump.sql', new Uint8Array(1));
    for (const name of [
      'daily/folder/a b.sql.gz',
      's3://bucket/daily/folder/a b.sql.gz',
      `daily/${backup.manifestKey}`,
    ])
      expect([name, await place.named(name)]).toEqual([name, backup.id]);
    expect(await place.named('daily/other/dump.sql')).toBe('other/dump.sql');
    // What is called so below the prefix comes first.
    expect(await place.named('daily/dump.sql')).toBe('daily/dump.sql');
    expect(await failure(place.named('daily/.pgark/repository.json'))).toMatchObject({ code: 'backup-not-found' });
    expect(await failure(place.named('weekly/folder/a b.sql'))).toMatchObject({ code: 'backup-not-found' });
  });

  test('an archive may also be named by its folder, and by a file in it', async () => {
    const place = new Place();
    await place.add('2026-01-01T02:00:00.000Z');
    const archive = await place.add('2026-01-02T02:00:00.000Z', { format: 'directory', key: 'shop/archive/x/toc.dat' });
    for (const name of [`shop/archive/${archive.id}`, `shop/archive/${archive.id}/`, archive.key]) {
      expect([name, await place.named(name)]).toEqual([name, archive.id]);
    }
  });

  test('a time means the newest not after it, by the second unless it says less', async () => {
    const place = new Place();
    const first = await place.add('2026-01-01T02:00:00.700Z');
    const second = await place.add('2026-01-02T02:00:00.000Z');
    for (const [time, id] of [
      ['2026-01-01T02:00:00Z', first.id],
      ['2026-01-01T02:00:00.700Z', first.id],
      ['2026-01-02T01:59:59Z', first.id],
      ['2026-01-02T02:00:00Z', second.id],
      ['2099-01-01T00:00:00Z', second.id],
    ] as const) {
      expect([time, await place.at(time)]).toEqual([time, id]);
    }
    for (const early of ['2026-01-01T02:00:00.600Z', '2026-01-01T01:59:59Z']) {
      const error = await failure(place.at(early));
      expect(error.code).toBe('backup-not-found');
      expect(error.hint).toContain(first.id);
    }
  });

  test('of two backups in one second, the later one is the latest, whatever its id', async () => {
    for (let attempt = 0; attempt < 8; attempt++) {
      const place = new Place();
      await place.add('2026-01-01T02:00:00.100Z');
      const later = await place.add('2026-01-01T02:00:00.900Z');
      await place.add('2026-01-01T02:00:00.500Z');
      expect(await place.find({ kind: 'latest' })).toBe(later.id);
    }
  });

  test('a backup that is removed between the listing and the reading gives way to the one before', async () => {
    const place = new Place();
    const older = await place.add('2026-01-01T02:00:00.000Z');
    const newest = await place.add('2026-01-02T02:00:00.000Z');
    place.store.faults = {
      before: ({ method, key }) => {
        if (method === 'get' && key === newest.manifestKey) place.memory.objects.delete(key);
      },
    };
    expect(await place.find({ kind: 'latest' })).toBe(older.id);
  });

  test('without a database named, several are a question, and a name that both have too', async () => {
    const place = new Place();
    const shop = await place.add('2026-01-01T02:00:00.000Z', { key: 'a/same.sql.gz' });
    const other = await place.add('2026-01-02T02:00:00.000Z', { source: 'eu', database: 'shop', key: 'b/same.sql.gz' });
    for (const selector of [{ kind: 'latest' } as const, { kind: 'at', time: new Date() } as const]) {
      const error = await failure(place.find(selector));
      expect(error).toMatchObject({ code: 'usage', message: 'there are backups of 2 databases: eu/shop, shop' });
    }
    expect(await place.find({ kind: 'latest' }, { source: 'shop', database: 'shop' })).toBe(shop.id);
    expect(await place.find({ kind: 'latest' }, { source: 'eu' })).toBe(other.id);
    expect((await failure(place.named('same.sql.gz'))).hint).toContain(shop.id);
    expect(await place.named('b/same.sql.gz')).toBe(other.id);
    expect((await failure(place.named(other.id, { source: 'shop', database: 'shop' }))).code).toBe('backup-not-found');
  });

  test('what is not there is said with its name and what may have been meant', async () => {
    const place = new Place();
    const backup = await place.add('2026-01-01T02:00:00.000Z', { database: 'shop', key: 'shop_2026-01-01.sql.gz' });
    await place.memory.putSmall('theirs/old.sql', new Uint8Array(1));
    for (const [name, hint] of [
      [`${backup.id.slice(0, -1)}_`, backup.id],
      ['shop_2026-01-02.sql.gz', 'shop_2026-01-01.sql.gz'],
      ['shop_2026', 'shop_2026-01-01.sql.gz'],
      ['shop', 'shop latest'],
      ['oldd.sql', 'pgark list'],
      ['theirs/odl.sql', 'theirs/old.sql'],
      ['../etc/passwd', 'pgark list'],
      ['/', 'pgark list'],
      ['.pgark/repository.json', 'pgark list'],
      ['s3://elsewhere/shop_2026-01-01.sql.gz', 'the storage is memory:'],
    ] as const) {
      const error = await failure(place.named(name));
      expect([name, error.code, error.message]).toEqual([name, 'backup-not-found', `Backup not found: ${name}`]);
      expect(error.hint).toContain(hint);
    }
    expect(await place.named('old.sql')).toBe('theirs/old.sql');
  });

  test('a damaged manifest is an error where it is meant, and none where another one is', async () => {
    const place = new Place();
    const good = await place.add('2026-01-01T02:00:00.000Z');
    const bad = await place.add('2026-01-02T02:00:00.000Z');
    await place.memory.putSmall(bad.manifestKey, new TextEncoder().encode('{'));
    expect(await place.named(good.id)).toBe(good.id);
    expect(await place.named(good.key)).toBe(good.id);
    expect((await failure(place.named(bad.id))).code).toBe('repository-damaged');
    expect((await failure(place.find({ kind: 'latest' }))).message).toContain(bad.manifestKey);
    expect(await place.named(bad.key)).toBe(bad.key);
  });
});
