import { describe, expect, test, vi } from 'vitest';
import { expectExit, expectFailure, pgarkJson } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { openS3Store } from '../support/s3-store.ts';
import { seedBackups } from '../support/seed.ts';
import { type TwoStorages, twoStorages } from '../support/two-storages.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

const DAY_MS = 86_400_000;

interface PruneJson {
  readonly storages: readonly {
    readonly storage: string;
    readonly keep: readonly unknown[];
    readonly remove: readonly { readonly id: string }[];
    readonly removed: readonly string[];
  }[];
  readonly failures: readonly {
    readonly storage: string;
    readonly error: { readonly code: string; readonly message: string; readonly hint: string };
  }[];
}

type Name = 'near' | 'far';

interface Scene extends AsyncDisposable {
  readonly places: TwoStorages;
  /** What lies in a storage of backups and their data: runs leave records of their own. */
  readonly backupsIn: (name: Name) => Promise<readonly string[]>;
  readonly prune: (args: readonly string[], away?: Name | 'both') => Promise<RunResult>;
}

/** Backups of some days ago in both, of which retention keeps three in each. */
async function setScene(days: Readonly<Record<Name, readonly number[]>>): Promise<Scene> {
  const job = { schedule: '@daily', format: 'plain', to: ['near', 'far'], retention: 'three' };
  const places = await twoStorages(
    { shop: { url: 'postgres://app@127.0.0.1:1/shop', jobs: { all: job } } },
    { retention: { three: { keep: { last: 3 }, min_backups: 1 } } },
  );
  for (const name of ['near', 'far'] as const) {
    const store = openS3Store(places[name].bucket.name);
    const times = days[name].map((ago) => new Date(Date.now() - ago * DAY_MS));
    await seedBackups(store, { source: 'shop', database: 'shop', times, withData: true });
    await store.close();
  }
  return {
    places,
    backupsIn: async (name) => (await places[name].keys()).filter((key) => /backups\/|\.sql\.gz$/.test(key)),
    prune: async (args, away) => runPgark(['prune', ...args], { env: await places.env(away) }),
    [Symbol.asyncDispose]: () => places[Symbol.asyncDispose](),
  };
}

const FIVE = [40, 30, 20, 10, 1];

describe.concurrent('a prune where a storage is away', () => {
  test.each([
    { away: 'near', there: 'far' },
    { away: 'far', there: 'near' },
  ] as const)('does in $there what it does anyway, and nothing in $away, and ends with 4', async ({ away, there }) => {
    await using scene = await setScene({ near: FIVE, far: FIVE });
    const { places, backupsIn, prune } = scene;
    const whole = await pgarkJson<PruneJson>(['prune', '--dry-run'], await places.env());
    expect(whole.failures).toEqual([]);
    const planned = whole.storages.find(({ storage }) => storage === there);
    expect(planned?.remove).toHaveLength(2);
    const untouched = await backupsIn(away);

    const tried = await prune(['--dry-run', '-o', 'json'], away);
    expectExit(tried, 4);
    expect(JSON.parse(tried.stdout)).toMatchObject({
      dry_run: true,
      storages: [planned],
      failures: [{ storage: away }],
    });

    const done = await prune(['-o', 'json'], away);
    expectExit(done, 4);
    const { storages, failures } = JSON.parse(done.stdout) as PruneJson;
    expect(storages).toMatchObject([{ storage: there, removed: planned?.remove.map(({ id }) => id) }]);
    expect(failures).toMatchObject([
      {
        storage: away,
        error: { code: 'store-unreachable', message: expect.stringContaining('127.0.0.1:1'), hint: /endpoint/ },
      },
    ]);
    expect(done.stderr).toMatch(new RegExp(`^storage ${away}: error {2}.*127\\.0\\.0\\.1:1.*\\n {2}hint `, 'm'));
    expect(done.stderr).toMatch(new RegExp(`^error {2}1 of 2 storages failed: ${away}$`, 'm'));
    expect(await backupsIn(there)).toHaveLength(6);
    expect(await backupsIn(away)).toEqual(untouched);
    // And when it is back, that one is pruned as ever.
    expectExit(await prune([]), 0);
    expect(await backupsIn(away)).toHaveLength(6);
  });

  test('says so in its text and its lines, too', async () => {
    await using scene = await setScene({ near: FIVE, far: FIVE });
    const { prune } = scene;
    const text = await prune(['--dry-run'], 'near');
    expectExit(text, 4);
    expect(text.stdout).toMatch(/^near: FAILED: .*127\.0\.0\.1:1.*\n[^]*^far: would delete 2 backups, /m);
    const lines = await prune(['-o', 'ndjson'], 'near');
    expectExit(lines, 4);
    expect(
      lines.stdout
        .trimEnd()
        .split('\n')
        .map((line): unknown => JSON.parse(line)),
    ).toMatchObject([
      { kind: 'storage', dry_run: false, storage: 'far', removed: [expect.any(String), expect.any(String)] },
      { kind: 'failure', storage: 'near', error: { code: 'store-unreachable' } },
    ]);
  });

  test('fails as the storages do where none answers, or the one that is asked for does not', async () => {
    await using scene = await setScene({ near: FIVE, far: FIVE });
    const { prune, backupsIn } = scene;
    expectFailure(await prune([], 'both'), {
      exit: 1,
      message: /^2 of 2 storages failed: near: .*127\.0\.0\.1:1.*; far: .*127\.0\.0\.1:1/,
      hint: /endpoint/,
    });
    expectFailure(await prune(['--storage', 'near'], 'near'), { exit: 1, message: /127\.0\.0\.1:1/, hint: /endpoint/ });
    expect(await backupsIn('far')).toHaveLength(10);
    expectExit(await prune(['--storage', 'far'], 'near'), 0);
    expect(await backupsIn('far')).toHaveLength(6);
  });

  test('hides neither that more than half would go in another one, nor that one is damaged', async () => {
    await using scene = await setScene({ near: FIVE, far: [70, 60, 50, ...FIVE] });
    const { prune, backupsIn, places } = scene;
    const refused = await prune(['-o', 'json'], 'near');
    expectExit(refused, 1);
    expect(JSON.parse(refused.stdout)).toMatchObject({
      storages: [{ storage: 'far', refused: [{ source: 'shop', remove: 5, of: 8 }], removed: [] }],
      failures: [{ storage: 'near', error: { code: 'store-unreachable' } }],
    });
    expect(refused.stderr).toMatch(/^storage near: error {2}.*127\.0\.0\.1:1/m);
    expect(refused.stderr).toMatch(/^error {2}the retention policy would delete 5 of 8 backups/m);
    expect(await backupsIn('far')).toHaveLength(16);

    const [manifest = ''] = (await backupsIn('near')).filter((key) => key.endsWith('.json'));
    await places.near.bucket.put(manifest, Buffer.from('{'));
    const both = await prune(['-o', 'json']);
    expectExit(both, 20);
    expect(JSON.parse(both.stdout)).toMatchObject({
      storages: [{ storage: 'far', refused: [{ source: 'shop', remove: 5, of: 8 }], removed: [] }],
      failures: [{ storage: 'near', error: { code: 'repository-damaged' } }],
    });
    expect(both.stderr).toMatch(/^storage far: error {2}the retention policy would delete 5 of 8 backups/m);
    expect(both.stderr).toMatch(/^error {2}1 of 2 storages failed: near: .*\.json/m);
    const damaged = await prune(['--force', '-o', 'json']);
    expectExit(damaged, 20);
    expect(JSON.parse(damaged.stdout)).toMatchObject({ storages: [{ storage: 'far', removed: { length: 5 } }] });
    expect(await backupsIn('near')).toHaveLength(10);
    expect(await backupsIn('far')).toHaveLength(6);
  });
});
