import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectExit, expectFailure, pgarkJson, succeed } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, manifestOf } from '../support/physical.ts';
import { openS3Store } from '../support/s3-store.ts';
import { type TwoStorages, twoStorages } from '../support/two-storages.ts';
import { flushedLsn, load, startReceiving } from '../support/wal-receiving.ts';

const stack = new AsyncDisposableStack();
let places: TwoStorages;
/** A base backup in both, behind which all WAL is archived in `far`, and all but one segment in `near`. */
let base: string;

beforeAll(async () => {
  const cluster = stack.use(await Cluster.start({ initdb: ['--wal-segsize=1'] }));
  const url = `postgres://postgres@127.0.0.1:${cluster.port}/postgres`;
  places = stack.use(
    await twoStorages({
      main: { url, wal: { to: ['near', 'far'], slot: 'main' } },
      // Nothing of it is archived anywhere.
      desk: { url, wal: { to: ['near', 'far'], slot: 'desk' } },
    }),
  );
  const stores = [places.near, places.far].map(({ bucket }) => openS3Store(bucket.name));
  for (const store of stores) stack.defer(() => store.close());
  await using receiving = startReceiving(cluster, stores, { source: 'main', slot: 'main' });
  await receiving.streams();
  const destinations = stores.map((store, index) => ({
    destination: { name: ['near', 'far'][index] ?? '', store, needsDelete: false },
  }));
  base = manifestOf(await backUpServer(cluster, destinations)).id;
  await cluster.sql(load(5_000));
  await receiving.archives(await flushedLsn(cluster));
  await receiving.stop();
  const [near] = stores;
  const segments = (await places.near.keys()).filter((key) => /\/[0-9A-F]{24}\.zst$/.test(key)).sort();
  const [missing] = segments.slice(-2);
  if (near === undefined || missing === undefined) throw new Error('there are several segments');
  await near.delete(missing);
}, 300_000);
afterAll(() => stack.disposeAsync());

interface Part {
  readonly from: string;
  readonly to: string;
}

const AWAY = { code: 'store-unreachable', message: /127\.0\.0\.1:1/, hint: /endpoint/ };
const failed = (storage: string, source: string) => ({
  source,
  storage,
  error: {
    code: AWAY.code,
    message: expect.stringMatching(AWAY.message) as string,
    hint: expect.stringMatching(AWAY.hint) as string,
  },
});

async function run(args: readonly string[], away?: 'near' | 'far' | 'both') {
  return runPgark(args, { env: await places.env(away) });
}

async function linesOf(args: readonly string[], away: 'near' | 'far'): Promise<readonly unknown[]> {
  const { stdout } = await run([...args, '-o', 'ndjson'], away);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line): unknown => JSON.parse(line));
}

function retriesIn({ stderr }: RunResult): number {
  return stderr.split(', trying again').length - 1;
}

describe('where a storage that WAL goes into is away', { timeout: 300_000 }, () => {
  test('the timeline of the other one is shown, with 4, and no more is concluded from what that lacks', async () => {
    const { windows, gaps, failures } = await pgarkJson<{
      windows: readonly { storage: string }[];
      gaps: readonly Part[];
      failures: readonly unknown[];
    }>(['timeline'], await places.env());
    expect([windows.map(({ storage }) => storage), failures]).toEqual([['near', 'near', 'far'], []]);
    expect(gaps).toMatchObject([{ source: 'main', storage: 'near' }]);
    expect(gaps[0]).not.toHaveProperty('may_be_in');
    const whole = await succeed(['timeline'], await places.env());
    expect(whole.stdout).toMatch(/^main, near: WAL from \S+ to \S+ is missing, and no recovery goes through that$/m);

    const json = await run(['timeline', '-o', 'json'], 'far');
    expectExit(json, 4);
    expect(JSON.parse(json.stdout)).toMatchObject({
      windows: windows.filter(({ storage }) => storage === 'near'),
      gaps: [{ ...gaps[0], may_be_in: ['far'] }],
      failures: [failed('far', 'main'), failed('far', 'desk')],
    });
    const text = await run(['timeline'], 'far');
    expectExit(text, 4);
    expect(text.stdout).toContain(
      `main, near: WAL from ${gaps[0]?.from} to ${gaps[0]?.to} is missing here, and may be in far, which could not be read\n`,
    );
    expect(text.stdout).not.toContain('no recovery goes');
    expect(text.stdout).toMatch(/^main, far: not known: .*127\.0\.0\.1:1.*$/m);
    expect(text.stdout).toMatch(/^desk, far: not known: /m);
    // Asked once and said once, though it is away for both sources.
    expect(retriesIn(text)).toBe(retriesIn(await run(['timeline', 'main'], 'far')));
    expect(text.stderr.match(/^storage far: error {2}.*127\.0\.0\.1:1.*\n {2}hint .*endpoint/gm)).toHaveLength(1);
    expect(text.stderr).toMatch(/^error {2}1 of 2 storages failed: far$/m);

    expect(await linesOf(['timeline', 'main'], 'near')).toMatchObject([
      { kind: 'window', storage: 'far', bases: [{ id: base }] },
      { kind: 'failure', ...failed('near', 'main') },
    ]);
  });

  test('the status of the WAL is told of the other one, with 4, and that there is none is not said', async () => {
    const { archives, failures } = await pgarkJson<{
      archives: readonly { storage: string; gaps: readonly Part[] }[];
      failures: readonly unknown[];
    }>(['wal', 'status'], await places.env());
    expect([archives.map(({ storage }) => storage), failures]).toEqual([['near', 'far'], []]);
    const [gap] = archives[0]?.gaps ?? [];

    const json = await run(['wal', 'status', '-o', 'json'], 'far');
    expectExit(json, 4);
    expect(JSON.parse(json.stdout)).toMatchObject({
      archives: [{ source: 'main', storage: 'near', gaps: [{ ...gap, may_be_in: ['far'] }] }],
      failures: [failed('far', 'main'), failed('far', 'desk')],
    });
    const text = await run(['wal', 'status', 'main'], 'far');
    expectExit(text, 4);
    expect(text.stdout).toMatch(new RegExp(`^missing +${gap?.from} to ${gap?.to}, which may be in far$`, 'm'));
    expect(text.stdout).toMatch(/^source +main\nstorage +far\narchived +not known: .*127\.0\.0\.1:1/m);
    expect(text.stderr).toMatch(/^storage far: error {2}.*127\.0\.0\.1:1.*\n {2}hint .*endpoint/m);
    expect(await linesOf(['wal', 'status', 'main'], 'near')).toMatchObject([
      { kind: 'archive', storage: 'far', gaps: [] },
      { kind: 'failure', ...failed('near', 'main') },
    ]);

    // What far holds of it is not known: nobody says that there is none.
    const none = 'no WAL is archived but what each physical backup keeps for itself\nbegin with: pgark wal receive\n';
    expect((await succeed(['wal', 'status', 'desk'], await places.env())).stdout).toBe(none);
    const desk = await run(['wal', 'status', 'desk'], 'far');
    expectExit(desk, 4);
    expect(desk.stdout).not.toContain('no WAL is archived but');
    expect(desk.stdout).toMatch(/^source +desk\nstorage +far\narchived +not known: /m);
  });

  test.each([{ args: ['timeline'] }, { args: ['wal', 'status'] }])(
    '$args fails where none answers',
    async ({ args }) => {
      expectFailure(await run(args, 'both'), {
        exit: 1,
        message: /^2 of 2 storages failed: near: .*127\.0\.0\.1:1.*; far: .*127\.0\.0\.1:1/,
        hint: AWAY.hint,
      });
      expectFailure(await run([...args, '--storage', 'far'], 'far'), {
        exit: 1,
        message: AWAY.message,
        hint: AWAY.hint,
      });
      expectExit(await run([...args, '--storage', 'near'], 'far'), 0);
    },
  );
});
