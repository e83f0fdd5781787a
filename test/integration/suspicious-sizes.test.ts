import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { expectExit, fileStorage, filler, pgarkJson, type Storage, substance } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

interface Listed {
  readonly id: string;
  readonly format: string;
  readonly suspicious: boolean;
  readonly suspicions: readonly { readonly rule: string; readonly message: string }[];
}

interface Settings {
  readonly expect: Readonly<Record<string, string>>;
  readonly jobs?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly storages?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly top?: Readonly<Record<string, unknown>>;
}

const PLAIN = { plain: { format: 'plain', retention: 'three' } };

/** A database of about 2 MiB of text, a directory to back it up to, and a configuration that keeps three backups. */
class Scene {
  readonly database: TestDatabase;
  readonly near: Storage & { readonly path: string };
  readonly #directory: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(stack: AsyncDisposableStack, database: TestDatabase, near: Scene['near'], directory: string) {
    this.#stack = stack;
    this.database = database;
    this.near = near;
    this.#directory = directory;
  }

  static async open(): Promise<Scene> {
    const stack = new AsyncDisposableStack();
    const folder = stack.use(await makeTempDirectory());
    const near = stack.use(await fileStorage(folder.join('near')));
    return new Scene(stack, stack.use(await createDatabase({ sql: filler(2) })), near, folder.path);
  }

  async configure({ expect: expected, jobs = PLAIN, storages = {}, top = {} }: Settings): Promise<void> {
    const config = {
      version: 1,
      storages: { near: { type: 'file', path: this.near.path }, ...storages },
      retention: { three: { keep: { last: 3 }, min_backups: 1 } },
      databases: { shop: { url: this.database.url, jobs, expect: expected, globals: 'none' } },
      ...top,
    };
    await writeFile(this.config, JSON.stringify(config));
  }

  get config(): string {
    return path.join(this.#directory, 'pgark.yaml');
  }

  run(...args: readonly string[]): Promise<RunResult> {
    return runPgark([...args, '--config', this.config], { env: {} });
  }

  /** The command succeeds; what it said. */
  async succeed(...args: readonly string[]): Promise<RunResult> {
    const result = await this.run(...args);
    expectExit(result, 0);
    return result;
  }

  async backups(storage = 'near'): Promise<readonly Listed[]> {
    const args = ['list', '--storage', storage, '--config', this.config];
    return (await pgarkJson<{ storages: { backups: Listed[] }[] }>(args, {})).storages[0]?.backups ?? [];
  }

  /** Makes the database so much larger or smaller that anybody would notice. */
  resize(mebibytes: number): Promise<unknown> {
    return this.database.query(`DROP TABLE filler; ${filler(mebibytes)}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

describe.concurrent('a backup of another size than is expected', () => {
  test('is kept and shown, prunes nothing by itself nor later, until its size is accepted', async () => {
    await using scene = await Scene.open();
    await scene.configure({ expect: { size_change: '40%' } });
    for (let count = 0; count < 3; count++) await scene.succeed('backup');
    const good = (await scene.backups()).map(({ id }) => id);

    await scene.resize(1);
    const first = await scene.succeed('backup');
    expect(first.stderr).not.toContain('is not carried out');
    expect(first.stderr).toMatch(
      /WARNING the backup \S+ in \S+ is suspicious: 1\.0 MiB before .* is 5\d(\.\d)?% less than/,
    );
    expect(first.stdout).toMatch(/^ {2}suspicious +1\.0 MiB before compression/m);
    // It is compared with the last good one, not with the one before.
    const again = await scene.succeed('once');
    expect(again.stderr).toMatch(new RegExp(`suspicious: .* ${good[2]}, and expect.size_change allows 40%`));
    const all = await scene.backups();
    expect(all.map(({ id }) => id).slice(0, 3)).toEqual(good);
    expect(all.map(({ suspicious }) => suspicious)).toEqual([false, false, false, true, true]);

    // Three are kept of what is good, and three of all: by hand nothing goes either.
    await scene.succeed('prune');
    expect((await scene.backups()).map(({ id }) => id)).toEqual(all.map(({ id }) => id));
    const newest = all.at(-1)?.id ?? '';
    expect((await scene.succeed('list')).stdout).toMatch(new RegExp(`^${newest} .*\\(suspicious\\)`, 'm'));
    expect((await scene.succeed('show', newest)).stdout).toMatch(/^suspicious +1\.0 MiB before/m);
    expect((await scene.succeed('runs')).stdout).toMatch(/KiB, suspicious$/m);
    const check = await scene.succeed('check');
    expect(check.stdout).toContain(`the newest backup, ${newest}, is suspicious`);
    expect(await scene.run('check', '--nagios')).toMatchObject({ exitCode: 1 });

    expect((await scene.succeed('accept', 'latest')).stdout).toContain(`accepted the size of ${newest}`);
    expect((await scene.succeed('check')).stdout).not.toContain('suspicious');
    expect((await scene.succeed('show', newest)).stdout).toMatch(/^suspicious +no longer: its size was accepted/m);
    const after = await scene.succeed('backup');
    expect(after.stderr).not.toContain('suspicious');
    const left = await scene.backups();
    // Of all the three newest; of what is good the new one, the accepted one, and the last one before.
    expect(left.map(({ id }) => id).slice(0, -1)).toEqual([good[2], all[3]?.id, newest]);
    expect(left.map(({ suspicious }) => suspicious)).toEqual([false, true, false, false]);
    expect((await substance(scene.near)).filter((key) => key.startsWith('.pgark/accepted/'))).toHaveLength(1);
    // What was said of a backup goes with it.
    for (let count = 0; count < 3; count++) await scene.succeed('backup');
    expect((await substance(scene.near)).filter((key) => key.startsWith('.pgark/accepted/'))).toEqual([]);
  });

  test('is too small by the least that was said, in each storage; no change is another compression, encryption or format', async () => {
    await using scene = await Scene.open();
    const settings = { expect: { min_size: '1900KiB', size_change: '5%' } };
    const job = { format: 'plain', retention: 'three' };
    await scene.configure({ ...settings, jobs: { plain: { ...job, compression: 'zstd' } } });
    await scene.succeed('backup');
    const encryption = { type: 'age', passphrase: 'correct horse battery staple' };
    const sealed = { ...job, compression: 'none', encryption: 'own' };
    await scene.configure({ ...settings, jobs: { plain: sealed }, top: { encryption: { own: encryption } } });
    expect((await scene.succeed('backup')).stderr).not.toContain('suspicious');
    await scene.configure({ ...settings, jobs: { archive: { format: 'directory', retention: 'three' } } });
    expect((await scene.succeed('backup')).stderr).not.toContain('suspicious');
    await scene.resize(1);
    await scene.configure({ expect: { min_size: '1900KiB' } });
    const { stderr } = await scene.succeed('backup');
    expect(stderr).toMatch(
      /suspicious: 1\.0 MiB before compression and encryption is less than the 1\.9 MiB of expect\.min_size\. It/,
    );
    const rules = (await scene.backups()).map(({ suspicions }) => suspicions.map(({ rule }) => rule));
    expect(rules).toEqual([[], [], [], ['min_size']]);
  });

  test('is judged in each storage by what lies there, and if it is suspicious in one, nothing is pruned in any', async () => {
    await using scene = await Scene.open();
    await using far = await fileStorage();
    const storages = { far: { type: 'file', path: far.path } };
    const jobs = { plain: { format: 'plain', to: ['near', 'far'], retention: 'three' } };
    await scene.configure({ expect: { size_change: '40%' }, jobs, storages });
    for (let count = 0; count < 3; count++) await scene.succeed('backup', '--to', 'near');
    await scene.resize(1);
    for (let count = 0; count < 3; count++) await scene.succeed('backup', '--to', 'far');
    const { stderr } = await scene.succeed('backup');
    expect(stderr.match(/ is suspicious: /g)).toHaveLength(1);
    expect((await scene.backups()).map(({ suspicious }) => suspicious)).toEqual([false, false, false, true]);
    expect((await scene.backups('far')).map(({ suspicious }) => suspicious)).toEqual([false, false, false, false]);
    await scene.succeed('accept', 'latest');
    expect((await scene.succeed('backup')).stderr).not.toContain(' is suspicious');
    expect(await scene.backups('far')).toHaveLength(3);
  });

  test('is told of, and so is the next one that is as large as it should be', async () => {
    await using scene = await Scene.open();
    await using hook = await startReceiver([status(200)]);
    const top = {
      notifications: { hook: { type: 'webhook', url: hook.origin, on: ['failure', 'recovery'] } },
      defaults: { notify: ['hook'] },
    };
    await scene.configure({ expect: { size_change: '40%' }, top });
    const told = (): unknown[] =>
      hook.requests.map(({ body }) => (JSON.parse(body) as { readonly data: unknown }).data);
    await scene.succeed('backup');
    await scene.resize(5);
    await scene.succeed('backup');
    const [, bad] = await scene.backups();
    const error = { code: 'suspicious-size', message: expect.stringMatching(/% more than /) as unknown };
    const about = { source: 'shop', database: scene.database.name, storage: 'near', job: 'plain' };
    const problem = { event: 'suspicious', ...about, backup_id: bad?.id, error };
    expect(told()).toMatchObject([problem]);
    await scene.succeed('backup');
    expect(told()).toHaveLength(1);
    await scene.resize(2);
    await scene.succeed('backup');
    expect(told()).toMatchObject([problem, { event: 'recovery', of: 'suspicious', ...about, times_seen: 2 }]);
  });
});
