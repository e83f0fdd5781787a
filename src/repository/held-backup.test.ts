import { expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { PgarkError } from '../common/errors.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { HeldBackup } from './held-backup.ts';
import { makeBackupId } from './ids.ts';
import { keys } from './keys.ts';
import { type Manifest, serialiseManifest } from './manifest.ts';
import { findReaders, type Readers } from './readers.ts';

const START = new Date('2026-11-20T02:00:00Z');
const MINUTE_MS = 60_000;

/** An incremental backup and the full one below it, and one who reads them. */
class Scene {
  readonly clock = new ManualClock(START);
  readonly memory = new MemoryStore({ clock: this.clock });
  readonly store = new FaultyStore(this.memory);
  readonly told: string[] = [];
  readonly full = makeBackupId(START, 'f', systemRandom);
  readonly manifest: Manifest = {
    ...manifestOf(makeBackupId(START, 'i', systemRandom), 'shop', ['unused']),
    parents: [this.full],
  };
  puts = 0;

  async fill(): Promise<this> {
    const { id, source } = this.manifest;
    await this.memory.putSmall(keys.manifest(source, 'shop', id), serialiseManifest(this.manifest));
    await this.memory.putSmall(keys.manifest(source, 'shop', this.full), Buffer.from('{}'));
    this.store.faults = {
      before: ({ method }) => {
        if (method === 'putSmall') this.puts += 1;
      },
    };
    return this;
  }

  hold(): Promise<HeldBackup> {
    const tell = (event: string): void => void this.told.push(event);
    const logger: Logger = { ...silentLogger, warning: tell };
    const { store, clock } = this;
    return HeldBackup.hold(this.manifest, {
      store,
      clock,
      random: systemRandom,
      logger,
      signal: new AbortController().signal,
      holder: { host: 'db1', pid: 71, command: 'pgark restore' },
      untakenLevel: 'warning',
    });
  }

  readers(): Promise<Readers> {
    return findReaders(this.memory, {});
  }

  async readIds(): Promise<readonly string[]> {
    return [...(await this.readers()).reading.keys()].toSorted();
  }

  ids(): readonly string[] {
    return [this.manifest.id, this.full].toSorted();
  }

  async removeFull(): Promise<void> {
    await this.memory.delete(keys.manifest(this.manifest.source, 'shop', this.full));
  }

  held(): readonly string[] {
    return [...this.memory.objects.keys()].filter((key) => key.startsWith(keys.readingPrefix)).toSorted();
  }
}

test('a backup is held with those that it needs, by name, for as long as it is read, and no longer', async () => {
  const scene = await new Scene().fill();
  const held = await scene.hold();
  for (let minutes = 0; minutes < 600; minutes += 5) {
    expect(await scene.readIds()).toEqual(scene.ids());
    await scene.clock.advance(5 * MINUTE_MS);
  }
  const said = `db1 (pid 71) for \`pgark restore\` since ${START.toISOString()}`;
  expect((await scene.readers()).reading.get(scene.full)).toEqual({ reader: said });
  // One put for each of them in 200 s, and little more.
  expect(scene.puts / 2).toBeGreaterThan((600 * 60) / 220);
  expect(scene.puts / 2).toBeLessThan((600 * 60) / 190);
  await held.release();
  await held.release();
  expect(scene.held()).toEqual([]);
  const puts = scene.puts;
  await scene.clock.advance(60 * MINUTE_MS);
  expect([scene.puts, scene.held(), scene.told]).toEqual([puts, [], []]);
});

test('what a reader that died has left holds to the end of its term, and may be removed an hour later', async () => {
  const scene = await new Scene().fill();
  await scene.hold();
  scene.clock.stopFor(10 * MINUTE_MS);
  expect(await scene.readIds()).toEqual(scene.ids());
  scene.clock.stopFor(MINUTE_MS);
  expect(await scene.readers()).toEqual({ reading: new Map(), ended: [] });
  scene.clock.stopFor(60 * MINUTE_MS);
  expect(await scene.readers()).toEqual({ reading: new Map(), ended: scene.held() });
});

test.each([
  ['is no JSON', '{'],
  ['is of a later version', '{"layout":2}'],
  ['lacks what it has to say', '{"layout":1,"until":"2026-11-20T02:00:00Z"}'],
])('a hold that %s holds for an hour', async (_what, text) => {
  const scene = await new Scene().fill();
  await scene.memory.putSmall(keys.reading(scene.full, 'x'), Buffer.from(text));
  scene.clock.stopFor(59 * MINUTE_MS);
  expect(await scene.readIds()).toEqual([scene.full]);
  scene.clock.stopFor(2 * MINUTE_MS);
  expect(await scene.readIds()).toEqual([]);
});

test.each(['stopFor', 'suspendFor'] as const)(
  'a reader that was paused past its term (%s) holds anew what is still there, under another key',
  async (pause) => {
    const scene = await new Scene().fill();
    const held = await scene.hold();
    const before = scene.held();
    scene.clock[pause](15 * MINUTE_MS);
    await scene.clock.advance(10_000);
    expect(await scene.readIds()).toEqual(scene.ids());
    expect(scene.held().filter((key) => !before.includes(key))).toHaveLength(2);
    expect(scene.told).toEqual([]);
    await held.release();
    expect(scene.held()).toEqual([]);
  },
);

test('a reader that was paused past its term says so where the backup has gone, and what then fails says why', async () => {
  const scene = await new Scene().fill();
  const held = await scene.hold();
  const missing = new PgarkError('corrupt', 'something is missing');
  expect(await held.explain(missing)).toBe(missing);
  scene.clock.stopFor(15 * MINUTE_MS);
  await scene.removeFull();
  await scene.clock.advance(10_000);
  expect(scene.told).toEqual(['hold.lost']);
  const message = `retention deleted backup ${scene.full} meanwhile`;
  expect(await held.explain(missing)).toMatchObject({ code: 'backup-not-found', message, cause: missing });
  const other = new PgarkError('restore-failed', 'the disk is full');
  expect(await held.explain(other)).toBe(other);
  await held.release();
  expect(scene.held()).toEqual([]);
});

test('what cannot be renewed is tried again until it can be', async () => {
  const scene = await new Scene().fill();
  const held = await scene.hold();
  const { faults } = scene.store;
  scene.store.faults = {
    before: () => {
      throw new PgarkError('store-unreachable', 'the storage is away');
    },
  };
  await scene.clock.advance(15 * MINUTE_MS);
  expect(new Set(scene.told)).toEqual(new Set(['hold.renewal_failed']));
  expect(await scene.readIds()).toEqual([]);
  scene.store.faults = faults;
  await scene.clock.advance(10_000);
  expect(await scene.readIds()).toEqual(scene.ids());
  await held.release();
});

test.each(['store-access-denied', 'store-full'] as const)(
  'a storage that takes no hold (%s) is read from all the same, with one warning',
  async (code) => {
    const scene = await new Scene().fill();
    let deletions = 0;
    scene.store.faults = {
      before: ({ method }) => {
        if (method === 'delete') deletions += 1;
        if (method === 'putSmall' || method === 'delete') throw new PgarkError(code, 'no');
      },
    };
    const held = await scene.hold();
    await scene.clock.advance(60 * MINUTE_MS);
    await scene.removeFull();
    const missing = new PgarkError('object-not-found', 'something is missing');
    expect(await held.explain(missing)).toMatchObject({ code: 'backup-not-found' });
    deletions = 0;
    await held.release();
    expect(scene.told).toEqual(['hold.not_taken']);
    // What was refused is not there; what a full disk took of it is not known.
    expect(deletions).toBe(code === 'store-access-denied' ? 0 : scene.ids().length);
  },
);

test('a backup that is gone is not held', async () => {
  const scene = await new Scene().fill();
  await scene.removeFull();
  await expect(scene.hold()).rejects.toMatchObject({ code: 'backup-not-found' });
  expect(scene.held()).toEqual([]);
});

test('whose removal has begun is held when the prune has let it be, and not where that goes on', async () => {
  for (const goesOn of [false, true]) {
    const scene = await new Scene().fill();
    await scene.memory.putSmall(keys.deleted(scene.full), Buffer.from('{}'));
    const holding = scene.hold().then(
      () => 'held',
      (error: PgarkError) => error.code,
    );
    await scene.clock.advance(2_000);
    expect(await scene.readIds()).toEqual(scene.ids());
    if (goesOn) await scene.removeFull();
    else await scene.memory.delete(keys.deleted(scene.full));
    await scene.clock.advance(500);
    expect(await holding).toBe(goesOn ? 'backup-not-found' : 'held');
    expect(scene.held()).toHaveLength(goesOn ? 0 : 2);
    expect(scene.told).toEqual([]);
  }
});

test('whose removal was begun by a prune that died is read all the same, and held', async () => {
  const scene = await new Scene().fill();
  await scene.memory.putSmall(keys.deleted(scene.full), Buffer.from('{}'));
  const holding = scene.hold();
  await scene.clock.advance(10_000);
  const held = await holding;
  expect(scene.told).toEqual(['hold.removal_begun']);
  expect(await scene.readIds()).toEqual(scene.ids());
  await held.release();
});
