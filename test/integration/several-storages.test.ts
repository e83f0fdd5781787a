import { describe, expect, test, vi } from 'vitest';
import { expectExit, expectFailure, pgarkJson, succeed, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase, openDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { type TwoStorages, twoStorages } from '../support/two-storages.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

interface BackupJson {
  readonly id: string;
}

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly places: TwoStorages;
  /** Backs up into these; its id. */
  backUp(...to: readonly string[]): Promise<string>;
}

/** A database with a single row, and a job whose format is plain, into both. */
async function setScene(): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ sql: 'CREATE TABLE version AS SELECT 1 AS number;' }));
  const job = { schedule: '@daily', format: 'plain', to: ['near', 'far'] };
  const places = stack.use(await twoStorages({ shop: { url: urlOf(database.name), jobs: { all: job } } }));
  return {
    database,
    places,
    async backUp(...to) {
      const args = ['backup', ...to.flatMap((name) => ['--to', name])];
      const { results } = await pgarkJson<{ results: readonly { backup: BackupJson }[] }>(args, await places.env());
      return results[0]?.backup.id ?? '';
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** A backup in both, and a newer one of another content in one of them. */
async function setUnequal(newer: 'near' | 'far'): Promise<Scene & { readonly old: string; readonly newest: string }> {
  const scene = await setScene();
  const old = await scene.backUp('near', 'far');
  await scene.database.query('UPDATE version SET number = 2');
  return { ...scene, old, newest: await scene.backUp(newer) };
}

async function versionIn(name: string): Promise<unknown> {
  await using restored = openDatabase(name);
  // Awaited here: the database is dropped when this returns.
  return await restored.query('SELECT number FROM version');
}

describe.concurrent('a backup that is restored without saying from which storage', () => {
  test.each(['near', 'far'] as const)('is the newest of all: in %s', async (newer) => {
    await using scene = await setUnequal(newer);
    const { old, newest, places, database } = scene;
    const name = `${database.name}_copy`;
    const { stderr, stdout } = await succeed(['restore', 'latest', '--to-db', name, '-o', 'json'], await places.env());
    expect(JSON.parse(stdout)).toMatchObject({ storage: newer, backup: { id: newest } });
    expect(stderr).toMatch(new RegExp(`taking from ${newer}, which has the newest: ${newest} of \\S+; ${old} of `));
    expect(await versionIn(name)).toEqual([{ number: 2 }]);
    expect(await pgarkJson(['show', 'latest'], await places.env())).toMatchObject({
      storage: newer,
      backup: { id: newest },
    });
  });

  test('by its id is taken from where it is, and from the first of the configuration where it is twice', async () => {
    await using scene = await setUnequal('far');
    const { old, newest, places } = scene;
    const env = await places.env();
    const first = await succeed(['show', old, '-o', 'json'], env);
    expect(JSON.parse(first.stdout)).toMatchObject({ storage: 'near', backup: { id: old } });
    expect(first.stderr).toMatch(new RegExp(`^taking from near: ${old} of \\S+; also in far$`, 'm'));
    await using folder = await makeTempDirectory();
    expect(await pgarkJson(['download', newest, folder.join('new')], env)).toMatchObject({
      storage: 'far',
      backup: { id: newest },
    });
    expect(await pgarkJson(['show', old, '--storage', 'far'], env)).toMatchObject({ storage: 'far' });
  });

  test('comes from the one that answers, and a newer one may be missed only with a warning', async () => {
    await using scene = await setUnequal('far');
    const { old, newest, places, database } = scene;
    const name = `${database.name}_copy`;
    const restored = await succeed(['restore', 'latest', '--to-db', name, '-o', 'json'], await places.env('far'));
    expect(JSON.parse(restored.stdout)).toMatchObject({
      storage: 'near',
      passed_over: [{ storage: 'far', error: { code: 'store-unreachable' } }],
      backup: { id: old },
    });
    expect(restored.stderr).toMatch(
      /WARNING storage far is passed over: .*127\.0\.0\.1:1.*; it may hold something newer than what near has/,
    );
    expect(await versionIn(name)).toEqual([{ number: 1 }]);
    const shown = await succeed(['show', newest, '-o', 'json'], await places.env('near'));
    expect(JSON.parse(shown.stdout)).toMatchObject({ storage: 'far', backup: { id: newest } });
    expect(shown.stderr).toMatch(/WARNING storage near is passed over: /);
    expect(shown.stderr).not.toMatch(/newer/);
  });

  test('fails only where no storage has it, and says of each why', async () => {
    await using scene = await setUnequal('far');
    const { newest, places } = scene;
    const unknown = '20010101T000000Z-paaaaaa';
    expectFailure(await runPgark(['show', unknown], { env: await places.env() }), {
      exit: 10,
      message: /^no storage has what was asked for: in near: Backup not found: \S+; in far: Backup not found: /,
      hint: /pgark list/,
    });
    const result = await runPgark(['restore', newest, '--to-db', 'nowhere'], { env: await places.env('far') });
    expectFailure(result, {
      exit: 1,
      message: /^no storage has what was asked for: in near: Backup not found: \S+; in far: .*127\.0\.0\.1:1/,
      hint: /endpoint/,
    });
    expectExit(await runPgark(['show', 'latest'], { env: await places.env('both') }), 1);
  });

  test('is of one database, though each storage has only one', async () => {
    await using scene = await setScene();
    await using other = await createDatabase();
    const { database } = scene;
    const job = { schedule: '@daily', format: 'plain', to: ['near'] };
    await using places = await twoStorages({
      shop: { url: urlOf(database.name), jobs: { all: job } },
      desk: { url: urlOf(other.name), jobs: { all: { ...job, to: ['far'] } } },
    });
    const env = await places.env();
    await succeed(['backup'], env);
    expectFailure(await runPgark(['restore', 'latest', '--to-url', urlOf('nowhere')], { env }), {
      exit: 2,
      message:
        /^the storages have different backups that this may mean: backups of shop.* in near; backups of desk.* in far/,
      hint: /of which database/,
    });
    expect(await pgarkJson(['show', 'latest', '--database', 'desk'], env)).toMatchObject({ storage: 'far' });
  });

  test('may be a dump of another tool, if it is the same everywhere', async () => {
    await using scene = await setScene();
    const { places, database } = scene;
    const sql = Buffer.from('CREATE TABLE version AS SELECT 7 AS number;\n');
    await places.near.bucket.put('old.sql', sql);
    await places.far.bucket.put('old.sql', Buffer.concat([sql, sql]));
    const env = await places.env();
    const args = ['restore', 'old.sql', '--to-db', `${database.name}_copy`];
    expectFailure(await runPgark(args, { env }), {
      exit: 2,
      message: /a dump of 44 bytes in near; a dump of 88 bytes in far$/,
      hint: /--storage near \| far/,
    });
    await places.far.bucket.put('old.sql', sql);
    await succeed(args, env);
    expect(await versionIn(`${database.name}_copy`)).toEqual([{ number: 7 }]);
  });
});

describe.concurrent('pgark verify of several storages', () => {
  interface VerifyJson {
    readonly storages: readonly { readonly storage: string; readonly state: string }[];
    readonly backups: readonly { readonly id: string; readonly storage: string; readonly passed: boolean }[];
  }

  test('goes over all, and says of which each result is', async () => {
    await using scene = await setUnequal('far');
    const { old, newest, places } = scene;
    const env = await places.env();
    const { backups } = await pgarkJson<VerifyJson>(['verify'], env);
    expect(backups.map(({ id, storage, passed }) => [id, storage, passed])).toEqual([
      [old, 'near', true],
      [old, 'far', true],
      [newest, 'far', true],
    ]);
    const one = await pgarkJson<VerifyJson>(['verify', newest], env);
    expect(one.backups.map(({ storage }) => storage)).toEqual(['far']);
    expect(one.storages.map(({ storage, state }) => [storage, state])).toEqual([
      ['near', 'without'],
      ['far', 'verified'],
    ]);
    expectExit(await runPgark(['verify', '20010101T000000Z-paaaaaa'], { env }), 10);
  });

  test('ends with 4 where a storage is away, and with 20 where something is damaged besides', async () => {
    await using scene = await setUnequal('far');
    const { places } = scene;
    const env = await places.env('near');
    const away = await runPgark(['verify', '-o', 'json'], { env });
    expectExit(away, 4);
    expect(away.stderr).toMatch(/^error {2}1 of 2 storages could not be verified: near: .*127\.0\.0\.1:1/m);
    expect(JSON.parse(away.stdout)).toMatchObject({
      storages: [
        { storage: 'near', state: 'failed', error: { code: 'store-unreachable' } },
        { storage: 'far', state: 'verified' },
      ],
      backups: [
        { storage: 'far', passed: true },
        { storage: 'far', passed: true },
      ],
    });
    const [data = ''] = (await places.far.keys()).filter((key) => key.endsWith('.sql.gz')).slice(-1);
    const bytes = await places.far.get(data);
    await places.far.bucket.put(data, Buffer.from(bytes.map((byte) => byte ^ 1)));
    const damaged = await runPgark(['verify'], { env });
    expectExit(damaged, 20);
    expect(damaged.stdout).toMatch(/FAILED/);
    expectExit(await runPgark(['verify'], { env: await places.env('both') }), 1);
  });
});

test('a drill tries the newest of all storages', async () => {
  await using scene = await setUnequal('far');
  const { newest, places } = scene;
  const args = ['drill', '--to-url', urlOf('postgres')];
  expect(await pgarkJson(args, await places.env())).toMatchObject({ storage: 'far', backup: { id: newest } });
});

describe.concurrent('a list where a storage is away', () => {
  test('shows what the others hold, says which could not be asked, and ends with 4', async () => {
    await using scene = await setUnequal('far');
    const { old, newest, places } = scene;
    const env = await places.env('near');
    const text = await runPgark(['list'], { env });
    expectExit(text, 4);
    expect(text.stdout).toMatch(new RegExp(`^far: .*\\n[^]*${old}[^]*${newest}`));
    expect(text.stderr).toMatch(/^storage near: error {2}.*127\.0\.0\.1:1/m);
    expect(text.stderr).toMatch(/^error {2}1 of 2 storages failed: near$/m);
    const json = await runPgark(['list', 'shop', '-o', 'json'], { env });
    expectExit(json, 4);
    expect(JSON.parse(json.stdout)).toMatchObject({
      storages: [{ storage: 'far', backups: [{ id: old }, { id: newest }] }],
      failures: [{ storage: 'near', error: { code: 'store-unreachable' } }],
    });
    const lines = await runPgark(['list', '-o', 'ndjson'], { env });
    expectExit(lines, 4);
    expect(lines.stdout).toContain('"kind":"failure","storage":"near"');
    // What it holds is not known: nobody says that there is no such backup.
    const unknown = await runPgark(['list', 'nobody'], { env });
    expectExit(unknown, 4);
    expect(unknown.stderr).not.toContain('there is no backup of nobody');

    const runs = await runPgark(['runs', '-o', 'json'], { env });
    expectExit(runs, 4);
    const ran = JSON.parse(runs.stdout) as { runs: { kind: string }[]; failures: unknown[] };
    expect(ran.failures).toMatchObject([{ storage: 'near' }]);
    expect(ran.runs.filter(({ kind }) => kind === 'backup')).toMatchObject([
      { storages: [{ storage: 'far' }] },
      { storages: [{ storage: 'far' }] },
    ]);
  });

  test('and the log of a run is printed from where it is, but one that is nowhere else is not said not to be', async () => {
    await using scene = await setUnequal('far');
    const { places } = scene;
    const { runs } = await pgarkJson<{ runs: { id: string; kind: string }[] }>(['runs'], await places.env());
    const [newest, old] = runs.filter(({ kind }) => kind === 'backup').map(({ id }) => id);
    const env = await places.env('far');
    const log = await succeed(['logs', old ?? '', '-o', 'json'], env);
    expect(JSON.parse(log.stdout)).toMatchObject({ run: { id: old, storages: [{ storage: 'near' }] } });
    expect(log.stderr).toMatch(/WARNING storage far is passed over: .*127\.0\.0\.1:1.*; it may know more of the run$/m);
    expect((await succeed(['logs', '-f', old ?? ''], env)).stdout).toContain('INFO');
    expectFailure(await runPgark(['logs', newest ?? ''], { env }), {
      exit: 1,
      message: /^no storage that answers has a run \S+; far: .*127\.0\.0\.1:1/,
      hint: /endpoint/,
    });
    expectExit(await runPgark(['logs', old ?? ''], { env: await places.env('both') }), 1);
  });

  test('and a recovery kit says how the other one is got at, and that what it holds is not known', async () => {
    await using scene = await setUnequal('far');
    const { places, old } = scene;
    const args = ['key', 'recovery-kit'];
    const { storages } = await pgarkJson<{ storages: readonly object[] }>(args, await places.env());
    expect(storages).toMatchObject([{ name: 'near', backups: [{ id: old }] }, { name: 'far' }]);
    const env = await places.env('far');
    const json = await runPgark([...args, '-o', 'json'], { env });
    expectExit(json, 4);
    const kit = JSON.parse(json.stdout) as { storages: readonly object[]; failures: readonly object[] };
    expect(kit.failures).toMatchObject([{ storage: 'far', error: { code: 'store-unreachable' } }]);
    expect(kit.storages).toEqual([
      storages[0],
      {
        name: 'far',
        location: expect.any(String),
        access: expect.objectContaining({ bucket: places.far.bucket.name }),
        error: expect.objectContaining({ code: 'store-unreachable', hint: expect.stringContaining('endpoint') }),
      },
    ]);
    const text = await runPgark(args, { env });
    expectExit(text, 4);
    expect(text.stdout).toContain(old);
    expect(text.stdout).toMatch(
      /^storage +far: [^]*\n {2}What it holds, and which keys open it, is not known, print this again: .*127\.0\.0\.1:1/m,
    );
    expect(text.stdout).not.toContain('It holds no backup yet');
    expect(text.stdout).toContain('- nothing to decrypt with: the backups that could be read are not encrypted\n');
    expect(text.stderr).toMatch(/^storage far: error {2}.*127\.0\.0\.1:1.*\n {2}hint /m);
  });

  test('fails as that storage does where no other one answers', async () => {
    await using scene = await setScene();
    const env = await scene.places.env('both');
    for (const command of ['list', 'runs', 'key recovery-kit']) {
      expectExit(await runPgark(command.split(' '), { env }), 1);
    }
    const one = await scene.places.env('near');
    expectExit(await runPgark(['list', '--storage', 'near'], { env: one }), 1);
    expectExit(await runPgark(['list', '--storage', 'far'], { env: one }), 0);
  });
});
