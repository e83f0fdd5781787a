import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { operationContext } from '../../src/operations/context.ts';
import { prune, type PruneOutcome, type PruneRequest } from '../../src/operations/prune.ts';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import { segmentName } from '../../src/postgres/wal/segment.ts';
import { type FormatLetter, makeBackupId } from '../../src/repository/ids.ts';
import { IntentLog } from '../../src/repository/intents.ts';
import { keys } from '../../src/repository/keys.ts';
import { Leases } from '../../src/repository/leases.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import { walKey } from '../../src/repository/wal-keys.ts';
import { FaultyStore } from './faulty-store.ts';
import { MemoryStore } from './memory-store.ts';
import { manifestOf } from './repository-place.ts';

const DAY_MS = 86_400_000;
const SYSTEM = '7380000000000000001';

/** A repository with WAL and base backups that were stored so many days ago. */
export class KeptWal {
  readonly folder = { source: 'shop', systemIdentifier: SYSTEM };
  readonly now = Date.now();
  #daysAgo = 0;
  readonly memory = new MemoryStore({ clock: { now: () => new Date(this.now - this.#daysAgo * DAY_MS) } });
  readonly store = new FaultyStore(this.memory);
  readonly #repository = new Repository(this.store, { clock: systemClock, random: systemRandom });

  async #then<T>(daysAgo: number, work: () => Promise<T>): Promise<T> {
    this.#daysAgo = daysAgo;
    try {
      return await work();
    } finally {
      this.#daysAgo = 0;
    }
  }

  /** Whole segments of 1 MiB, by their numbers from the first to the last one. */
  async segments(
    first: number,
    last: number,
    daysAgo: number,
    { timeline = 1, endings = '.zst', source = 'shop' } = {},
  ) {
    await this.#then(daysAgo, async () => {
      for (let number = first; number <= last; number += 1) {
        const name = nameOf(number, timeline);
        const key = walKey({ source, systemIdentifier: SYSTEM }, { kind: 'segment', name }, endings);
        await this.store.putSmall(key, Buffer.from('wal'));
      }
    });
  }

  async object(key: string, daysAgo: number, content = 'x'): Promise<void> {
    await this.#then(daysAgo, () => this.store.putSmall(key, Buffer.from(content)));
  }

  key(file: string): string {
    return `shop/wal/${SYSTEM}/${file}`;
  }

  /** A base backup of these segments, whole ones but the ends. */
  async base(
    daysAgo: number,
    first: number,
    last: number,
    said: { timeline?: number; source?: string; parents?: readonly Manifest[]; lockedDays?: number } = {},
  ) {
    const { timeline = 1, source = 'shop', parents = [], lockedDays } = said;
    const letter = parents.length === 0 ? 'f' : 'i';
    const id = makeBackupId(new Date(this.now - daysAgo * DAY_MS), letter, systemRandom);
    const at = new Date(this.now - daysAgo * DAY_MS).toISOString();
    const plain = manifestOf(id, 'shop', [`${keys.basePrefix(source, id)}base.tar.zst`]);
    const lockedUntil =
      lockedDays === undefined ? undefined : new Date(this.now - (daysAgo - lockedDays) * DAY_MS).toISOString();
    const manifest: Manifest = {
      ...plain,
      ...(lockedUntil === undefined ? {} : { lockedUntil }),
      format: 'physical',
      source,
      server: { ...plain.server, systemIdentifier: SYSTEM },
      startedAt: at,
      endedAt: at,
      storeTime: at,
      parents: parents.map((parent) => parent.id),
      timeline,
      startLsn: formatLsn(BigInt(first * MIB + 0x28)),
      stopLsn: formatLsn(BigInt(last * MIB + 0x100)),
      walNeeded: { from: nameOf(first, timeline), to: nameOf(last, timeline), segmentBytes: MIB },
    };
    await this.#repository.initialise({ pgarkVersion: '0.1.0' });
    await this.#repository.commit(manifest);
    return manifest;
  }

  /** The trace of a backup that goes on. */
  async underWay(letter: FormatLetter, source = 'shop'): Promise<void> {
    const id = makeBackupId(new Date(), letter, systemRandom);
    const holder = { host: 'h', pid: 1, runId: 'r', command: 'pgark backup' };
    const options = { clock: systemClock, random: systemRandom, logger: silentLogger, termMs: 60_000, holder };
    const lease = await new Leases(this.memory, options).acquire(`${source}/shop`);
    const plan = { id, runId: 'r', lease, source, database: 'shop', startedAt: new Date() };
    await new IntentLog(this.memory).begin(plan);
  }

  /** A hold of somebody who restores it. */
  async reads({ id }: Manifest): Promise<void> {
    const until = new Date(this.now + DAY_MS).toISOString();
    const holder = { host: 'h', pid: 1, command: 'pgark restore' };
    await this.memory.putSmall(
      keys.reading(id, 'token'),
      Buffer.from(JSON.stringify({ layout: 1, id, holder, since: until, until })),
    );
  }

  /** Does this when so many objects of WAL have gone. */
  whenDeleted(count: number, work: () => Promise<void>): void {
    let deleted = 0;
    this.store.faults = {
      after: async ({ method, key }) => {
        if (method !== 'delete' || !key.includes('/wal/')) return;
        deleted += 1;
        if (deleted === count) await work();
      },
    };
  }

  /** Of all who read. */
  async ended(): Promise<void> {
    for await (const { key } of this.memory.list(keys.readingPrefix)) await this.memory.delete(key);
  }

  prune(
    changes: Partial<PruneRequest> & { keepDays?: number; last?: number; lockedDays?: number; daysAgo?: number } = {},
  ): Promise<PruneOutcome> {
    const { keepDays, last = 100, lockedDays, daysAgo = 0, ...request } = changes;
    const keepMs = keepDays === undefined ? undefined : keepDays * DAY_MS;
    const lockedMs = lockedDays === undefined ? undefined : lockedDays * DAY_MS;
    const whole: PruneRequest = {
      store: this.store,
      filter: {},
      policyOf: () => ({ keep: { last }, minBackups: 1 }),
      walPolicyOf: () => ({ keepMs, lockedMs }),
      timezone: 'UTC',
      leaseTermMs: 60_000,
      dryRun: false,
      force: false,
      ...request,
    };
    return this.#then(daysAgo, () => prune(whole, operationContext()));
  }

  /** Of the newest run. */
  record(): unknown {
    const key = [...this.memory.objects.keys()]
      .filter((each) => each.startsWith(keys.runsPrefix))
      .sort()
      .at(-1);
    return JSON.parse(Buffer.from(this.memory.objects.get(key ?? '')?.bytes ?? []).toString());
  }

  /** Numbers of the segments that are there. */
  numbers(timeline = 1, source = 'shop'): readonly number[] {
    const prefix = `${source}/wal/${SYSTEM}/${String(timeline).padStart(8, '0')}/`;
    const names = [...this.memory.objects.keys()].filter((key) => key.startsWith(prefix) && !key.includes('delta'));
    return [
      ...new Set(names.map((key) => Number.parseInt(key.slice(prefix.length + 16, prefix.length + 24), 16))),
    ].sort((a, b) => a - b);
  }
}

export function nameOf(number: number, timeline = 1): string {
  return segmentName({ timeline, number: BigInt(number) }, MIB);
}

export function range(first: number, last: number): readonly number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
