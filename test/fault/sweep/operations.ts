import { expect } from 'vitest';
import type { Manifest } from '../../../src/repository/manifest.ts';
import type { ObjectStore } from '../../../src/storage/object-store.ts';
import type { TestBucket } from '../../support/s3.ts';
import { CasePlace } from './place.ts';
import { type FaultCase, type Lane, outcomeOf, type Swept, UNREACHED } from './sweep.ts';
import { STALL_MS, type Wires } from './wires.ts';

/** What a restore is to make: nothing is there before. */
export interface Target extends AsyncDisposable {
  /** `port`: of PostgreSQL, where the restore needs one. */
  restore(store: ObjectStore, port: number, id?: string): Promise<unknown>;
  /** What there is, under its own name and such as are made of it. */
  made(): Promise<readonly string[]>;
  /** Its own name. */
  readonly name: string;
  /** By which `pgark restore` is told of it. */
  readonly args: readonly string[];
  content(): Promise<unknown>;
}

/** See `BackupRequest`. */
interface Limits {
  readonly stallMs?: number;
}

/** Something that is backed up, and where to. */
export interface World extends AsyncDisposable {
  readonly bucket: TestBucket;
  readonly wires: Wires;
  /** Of PostgreSQL, without a proxy. */
  readonly serverPort: number;
  /** The lease that a backup takes. */
  readonly lease: string;
  /** The configuration of what is backed up, but for the storage. */
  readonly database: { readonly source: string; readonly url: string; readonly format: Manifest['format'] };
  backUp(store: ObjectStore, port: number, limits?: Limits): Promise<Manifest>;
  /** So that a later backup holds something else. */
  change(): Promise<void>;
  content(): Promise<unknown>;
  target(): Target;
}

const BASE = 'base';

/** A world whose bucket holds backups, the last of which is of before the last change. */
export class Begun implements AsyncDisposable {
  readonly world: World;
  readonly before: unknown;
  readonly now: unknown;
  #cases = 0;

  private constructor(world: World, before: unknown, now: unknown) {
    this.world = world;
    this.before = before;
    this.now = now;
  }

  static async open(openWorld: () => Promise<World>, backups: number): Promise<Begun> {
    const world = await openWorld();
    await using base = await CasePlace.copyOf(world.bucket, 'nothing', world.wires.http, BASE);
    base.keep();
    for (let made = 1; made < backups; made += 1) await world.backUp(base.store, world.serverPort);
    await world.backUp(base.store, world.serverPort);
    const before = await world.content();
    await world.change();
    return new Begun(world, before, await world.content());
  }

  /** A place of a case's own, with a copy of the backup. */
  async place(): Promise<CasePlace> {
    this.#cases += 1;
    const { bucket, wires } = this.world;
    return CasePlace.copyOf(bucket, BASE, wires.http, `case-${this.#cases}`);
  }

  async expectRestores({ store }: CasePlace, { id }: Manifest, content: unknown): Promise<void> {
    await using target = this.world.target();
    await target.restore(store, this.world.serverPort, id);
    expect({ id, content: await target.content() }).toEqual({ id, content });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]();
  }
}

export interface Operation {
  /** How many there are to begin with. Default: 1. */
  readonly backups?: number;
  /** Default: what the wire is for. */
  readonly casesOf?: (wires: Wires) => readonly FaultCase[];
  /** Without a fault. */
  perform(begun: Begun, place: CasePlace, store: ObjectStore): Promise<void>;
  /** With one, and whatever is to be asked afterwards. */
  tryFault(
    begun: Begun,
    place: CasePlace,
    fault: FaultCase,
  ): Promise<{ readonly said: string; readonly isReached: boolean }>;
}

export function swept(name: string, openWorld: () => Promise<World>, operation: Operation): Swept {
  const { backups = 1 } = operation;
  const openLane = async (): Promise<Lane> => {
    const begun = await Begun.open(openWorld, backups);
    const { wires } = begun.world;
    return {
      async cases() {
        await using place = await begun.place();
        const store = place.openThrough({ retriesMax: 0 });
        wires.count();
        await operation.perform(begun, place, store);
        return operation.casesOf?.(wires) ?? wires.cases();
      },
      async run(fault) {
        await using place = await begun.place();
        const { said, isReached } = await operation.tryFault(begun, place, fault);
        if (wires.isOvercome(fault)) expect(said).toBe('done');
        return isReached ? said : UNREACHED;
      },
      [Symbol.asyncDispose]: () => begun[Symbol.asyncDispose](),
    };
  };
  return { name, openLane };
}

/** What lies in a place before a case, and is to lie there after it. */
export interface Kept {
  readonly manifests: readonly Manifest[];
  readonly keys: readonly string[];
  readonly tags: Readonly<Record<string, string>>;
}

export async function keptIn(place: CasePlace, count = Number.POSITIVE_INFINITY): Promise<Kept> {
  const manifests = (await place.manifests()).slice(-count);
  if (manifests.length === 0) throw new Error('there is no backup to begin with');
  const own = await place.keysOf(manifests);
  return { manifests, keys: own, tags: await place.tags(own) };
}

/** After a backup with a fault, which has `made` this one if it succeeded, and one without. */
export async function expectBackedUp(
  begun: Begun,
  place: CasePlace,
  kept: Kept,
  made: Manifest | undefined,
): Promise<void> {
  const { world, now } = begun;
  // All of them are read below, but for the first, which is the same bytes as before.
  const manifests = await place.expectSound({ deep: false });
  const ids = manifests.map(({ id }) => id);
  expect(ids).toEqual(
    expect.arrayContaining([...kept.manifests, ...(made === undefined ? [] : [made])].map(({ id }) => id)),
  );
  // A commit without an answer may have come through.
  expect(ids.length).toBeLessThanOrEqual(3);
  expect(ids.length).toBeGreaterThanOrEqual(made === undefined ? 2 : 3);
  await place.expectReleased([world.lease]);
  expect((await place.states('backup')).at(-1)).toBe('succeeded');
  // What lies there of the first is what it was, byte for byte, and that restores.
  expect(await place.tags(kept.keys)).toEqual(kept.tags);
  for (const manifest of manifests.slice(1)) await begun.expectRestores(place, manifest, now);
}

export function sweptBackup(name: string, openWorld: () => Promise<World>): Swept {
  return swept(name, openWorld, {
    async perform({ world }, _, store) {
      await world.backUp(store, world.wires.port);
    },
    async tryFault(begun, place, fault) {
      const { world } = begun;
      const kept = await keptIn(place);
      const store = place.openFaulty(fault);
      world.wires.inject(fault);
      const { said, value } = await outcomeOf(world.backUp(store, world.wires.port, { stallMs: STALL_MS }));
      const isReached = world.wires.calm();
      await world.backUp(place.openLater(), world.serverPort);
      await expectBackedUp(begun, place, kept, value);
      return { said, isReached };
    },
  });
}

/**
 * After a restore that did not succeed: nothing is there, or all of it, for its last answer may have been lost; then it is made.
 * The hold that it could not give back, where it may have been so, ends with its term; the next one leaves none.
 */
export async function expectRestored(
  { before }: Begun,
  place: CasePlace,
  target: Target,
  { again, mayHold }: { readonly again: () => Promise<unknown>; readonly mayHold: boolean },
): Promise<void> {
  const holds = await place.holds();
  expect(holds.length).toBeLessThanOrEqual(mayHold ? 1 : 0);
  if (!(await target.made()).includes(target.name)) {
    await again();
    await place.expectReleased([]);
    expect((await place.states('restore')).at(-1)).toBe('succeeded');
  }
  expect(await target.content()).toEqual(before);
  expect(await target.made()).toEqual([target.name]);
  expect(await place.expectSound({ holds })).toHaveLength(1);
}

export function sweptRestore(name: string, openWorld: () => Promise<World>): Swept {
  return swept(name, openWorld, {
    async perform({ world, before }, _, store) {
      await using target = world.target();
      await target.restore(store, world.wires.port);
      expect(await target.content()).toEqual(before);
    },
    async tryFault(begun, place, fault) {
      const { world } = begun;
      await using target = world.target();
      const store = place.openFaulty(fault);
      let mayHold = false;
      world.wires.inject(fault, ({ index, operation }) => {
        mayHold ||= index === fault.position && operation === 'DeleteObject';
      });
      const { said } = await outcomeOf(target.restore(store, world.wires.port));
      const isReached = world.wires.calm();
      if (said === 'done') expect(await target.made()).toEqual([target.name]);
      // Where the server can be reached, whatever was begun there is taken back.
      else if (world.wires.wire === 'HTTP') expect(await target.made()).toEqual([]);
      const again = (): Promise<unknown> => target.restore(place.openLater(), world.serverPort);
      await expectRestored(begun, place, target, { again, mayHold });
      return { said, isReached };
    },
  });
}
