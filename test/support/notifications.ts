import { overHint } from '../../src/service/storage-sizes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { createLogger } from '../../src/common/log-writer.ts';
import type { Channel, Subscription } from '../../src/notify/channel.ts';
import type { NotifyContext } from '../../src/notify/dispatcher.ts';
import type { NotificationMessage } from '../../src/notify/message.ts';
import { refusalOf } from '../../src/operations/prune-refusal.ts';

const at = new Date('2026-11-20T02:00:05.250Z');
const about = {
  at,
  source: 'shop',
  database: 'shop',
  storage: 'r2',
  job: 'nightly',
  runId: '01KAFZJHDJ6YV1T1Y2Z3A4B5C6',
} as const;

export const everyEvent: readonly Subscription[] = [
  'start',
  'success',
  'failure',
  'recovery',
  'overdue',
  'verify_failed',
  'drill_failed',
];

const failure = {
  ...about,
  event: 'failure',
  error: { code: 'store-access-denied', message: 'AccessDenied', hint: 'grant s3:PutObject' },
  startedAt: new Date('2026-11-20T02:00:00Z'),
  lastGoodAt: new Date('2026-11-19T02:00:00Z'),
  nextTryAt: new Date('2026-11-20T02:10:00Z'),
} as const;

const digest = { event: 'digest', at, channel: 'ops', since: new Date('2026-11-13T02:00:00Z') } as const;
const freshBackup = {
  storage: 'r2',
  lastGoodAt: new Date('2026-11-19T20:00:00Z'),
  lastBytes: 1_288_490_189,
  count: 7,
  isOverdue: false,
} as const;

/** Calls everybody, in every markup there is, and breaks out of lines, attributes and headers. */
export const hostileName = '<!channel> *x* _y_ @everyone';
const hostileText =
  'permission denied for "<img src=x onerror=alert(1)>"\r\nBcc: all@example.com\n[click](https://evil.example) `a` ~b~ ||c|| <@123456789012345678> @here & \u202etxt.exe\u0000';

/** One message of each kind, and those that are hard to write down. */
export const sampleMessages = {
  start: { ...about, event: 'start' },
  success: {
    ...about,
    event: 'success',
    startedAt: new Date('2026-11-20T01:57:00Z'),
    backupId: '20261120T015700Z-pp7k2m4',
    storedBytes: 1_288_490_189,
    nextTryAt: new Date('2026-11-21T02:00:00Z'),
  },
  failure,
  'failure-first': {
    at,
    source: 'crm',
    database: 'orders',
    event: 'failure',
    error: failure.error,
    lastGoodAt: 'never',
  },
  overdue: {
    at,
    source: 'shop',
    event: 'overdue',
    lastGoodAt: new Date('2026-11-17T01:00:00Z'),
    maxAgeMs: 26 * 3_600_000,
    nextTryAt: new Date('2026-11-23T02:00:00Z'),
  },
  verify_failed: {
    ...about,
    event: 'verify_failed',
    backupId: '20261119T020000Z-pabcdef',
    error: {
      code: 'corrupt',
      message: 'the stored bytes are not those that were written',
      hint: 'restore another backup',
    },
    lastPassedAt: new Date('2026-11-13T02:00:00Z'),
  },
  drill_failed: {
    ...about,
    event: 'drill_failed',
    error: {
      code: 'restore-failed',
      message: 'select count(*) from orders gave 12, at least 100000 are expected',
      hint: '',
    },
    lastPassedAt: 'never',
  },
  prune_refused: {
    ...about,
    event: 'prune_refused',
    error: refusalOf({ source: 'shop', database: 'shop', removeCount: 12, totalCount: 14 }),
  },
  suspicious: {
    ...about,
    event: 'suspicious',
    backupId: '20261120T015700Z-pp7k2m4',
    error: {
      code: 'suspicious-size',
      message:
        '3.0 MiB before compression and encryption is 75% less than the 12.0 MiB of 20261119T015700Z-pabcdef, and expect.size_change allows 40%',
      hint: 'look at what it holds: pgark show 20261120T015700Z-pp7k2m4. If its size is right, say so: pgark accept 20261120T015700Z-pp7k2m4',
    },
  },
  storage_size: {
    at,
    source: 'shop',
    storage: 'r2',
    event: 'storage_size',
    error: {
      code: 'storage-size',
      message: 'it holds 52.1 GiB of pgark’s own, 2.1 GiB more than its max_size of 50.0 GiB',
      hint: overHint('r2'),
    },
  },
  wal_gap: {
    at,
    source: 'shop',
    event: 'wal_gap',
    error: {
      code: 'wal-gap',
      message: 'the WAL of shop from A2/F3000000 to A2/F9000000 is lost: the server does not have it any more',
      hint: 'make a new base backup',
    },
  },
  wal_lag: {
    at,
    source: 'shop',
    event: 'wal_lag',
    error: {
      code: 'wal-lag',
      message: 'nothing was archived for 20 min: r2: AccessDenied',
      hint: 'grant s3:PutObject',
    },
    archivedUntil: new Date('2026-11-20T01:40:00Z'),
  },
  wal_slot: {
    at,
    source: 'shop',
    event: 'wal_slot',
    error: {
      code: 'wal-slot',
      message: 'the replication slot pgark_shop of shop holds back 48 GiB of WAL on the server, of 64 GiB at the most',
      hint: 'see why WAL is not stored',
    },
    archivedUntil: new Date('2026-11-20T01:40:00Z'),
  },
  recovery: {
    ...about,
    event: 'recovery',
    of: 'failure',
    since: new Date('2026-11-18T02:00:03Z'),
    timesSeen: 3,
    startedAt: new Date('2026-11-20T01:57:00Z'),
    storedBytes: 1_288_490_189,
  },
  digest: {
    ...digest,
    databases: [
      {
        source: 'shop',
        database: 'shop',
        state: 'protected',
        backups: [
          {
            ...freshBackup,
            format: 'plain',
            nextRunAt: new Date('2026-11-21T02:00:00Z'),
            lastDrillAt: new Date('2026-11-15T04:00:00Z'),
          },
        ],
      },
    ],
    standing: [],
    notes: [],
    runs: [{ kind: 'backup', succeeded: 7, failed: 0 }],
    failures: [],
    wal: [],
    storages: [{ storage: 'r2', storedBytes: 9_019_431_321, grownBytes: -104_857_600 }],
  },
  'digest-attention': {
    ...digest,
    databases: [
      {
        source: 'shop',
        database: 'shop',
        state: 'protected',
        backups: [{ ...freshBackup, format: 'physical' }],
      },
      {
        source: hostileName,
        database: 'orders',
        state: 'attention',
        backups: [{ format: 'plain', storage: 'nas', lastGoodAt: 'never', count: 0, isOverdue: true }],
      },
      {
        source: 'old',
        database: 'old',
        state: 'unscheduled',
        backups: [
          { format: 'plain', storage: 'nas', lastGoodAt: new Date('2026-01-01T02:00:00Z'), count: 1, isOverdue: false },
        ],
      },
    ],
    standing: [
      { sentence: `orders on nas: overdue: ${hostileText}`, fix: 'grant SELECT on "a<b>&c" to \'backup\'.' },
      { sentence: 'WAL of shop: no WAL is known to be archived', fix: undefined },
    ],
    notes: ['storage nas: 1 of its manifests cannot be read; pgark doctor names them'],
    runs: [
      { kind: 'backup', succeeded: 13, failed: 2 },
      { kind: 'drill', succeeded: 1, failed: 0 },
    ],
    failures: [
      {
        kind: 'backup',
        source: 'crm',
        database: 'orders',
        storages: ['nas', 'r2'],
        times: 2,
        lastAt: new Date('2026-11-18T02:00:03Z'),
        isOver: true,
        error: failure.error,
      },
      {
        kind: 'prune',
        storages: ['r2'],
        times: 1,
        lastAt: new Date('2026-11-17T02:00:03Z'),
        isOver: false,
        error: { code: 'prune-refused', message: hostileText, hint: '' },
      },
    ],
    wal: [
      {
        source: 'shop',
        isInTime: false,
        earliest: new Date('2026-11-10T02:00:00Z'),
        latest: new Date('2026-11-20T01:00:00Z'),
        lossMs: 3_605_000,
        gaps: 2,
        storedBytes: 5_368_709_120,
      },
      { source: 'crm', isInTime: true },
    ],
    storages: [
      { storage: 'r2', storedBytes: 9_019_431_321, grownBytes: 104_857_600 },
      { storage: 'nas', storedBytes: 0 },
      { storage: 'tape' },
    ],
  },
  hostile: {
    ...failure,
    source: hostileName,
    database: hostileName,
    storage: '@channel #general',
    error: { code: 'postgres-privileges', message: hostileText, hint: 'grant SELECT on "a<b>&c" to \'backup\'.' },
  },
  long: {
    ...failure,
    source: '*'.repeat(200),
    error: { code: 'dump-failed', message: '<&>_'.repeat(700), hint: '@'.repeat(400) },
  },
  test: { event: 'test', at, channel: 'ops' },
} as const satisfies Readonly<Record<string, NotificationMessage>>;

/** A channel's settings that have nothing to do with its type. */
export function subscribed(name: string, on: readonly Subscription[] = everyEvent): Pick<Channel, 'name' | 'on'> {
  return { name, on };
}

/** A context in which pauses pass at once and are written down, as are all lines of the log. */
export interface WatchedContext extends NotifyContext {
  readonly pausesMs: readonly number[];
  readonly lines: readonly string[];
}

export function watchedContext(changes: Partial<NotifyContext> = {}): WatchedContext {
  const pausesMs: number[] = [];
  const lines: string[] = [];
  return {
    clock: {
      ...systemClock,
      monotonicMs: () => pausesMs.reduce((sum, ms) => sum + ms, 0),
      sleep: async (ms, signal) => {
        signal?.throwIfAborted();
        pausesMs.push(ms);
        await Promise.resolve();
      },
    },
    random: { bytes: (count) => new Uint8Array(count), fraction: () => 1 },
    logger: createLogger({ format: 'json', level: 'debug', write: (line) => lines.push(line) }),
    timeoutMs: 5_000,
    pausesMs,
    lines,
    ...changes,
  };
}
