import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { expectExit, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

interface Listed {
  readonly source: string;
  readonly database: string | null;
  readonly state: string;
  readonly storages: readonly { readonly error?: { readonly code: string } }[];
}

/** One source that was backed up once, and then is configured otherwise. */
async function backedUpOnce(said: { readonly patterns?: boolean } = {}) {
  const folder = await makeTempDirectory();
  const database = await createDatabase({ name: 'early', sql: 'CREATE TABLE t AS SELECT 1 AS n' });
  const patterns = said.patterns === true ? `databases: [${JSON.stringify(`${database.name.slice(0, -1)}?`)}]` : '';
  const configure = (change: { url?: string; source?: string } = {}): Promise<void> =>
    writeFile(
      folder.join('pgark.yaml'),
      `
version: 1
storages: { near: { type: file, path: near }, far: { type: file, path: far } }
databases:
  shop:
    url: ${JSON.stringify(change.url ?? database.url)}
    ${patterns}
    globals: none
    ${change.source ?? ''}
    jobs: { nightly: { format: plain, schedule: "0 2 * * *", to: [near, far] } }
`,
    );
  const run = (...args: string[]) => runPgark([...args, '--config', 'pgark.yaml'], { cwd: folder.path });
  await configure();
  expectExit(await run('once'), 0);
  return {
    folder,
    database,
    configure,
    run,
    async runs(): Promise<readonly Listed[]> {
      const { stdout } = await run('runs', 'shop', '-o', 'json');
      return (JSON.parse(stdout) as { readonly runs: readonly Listed[] }).runs;
    },
    async lastAttempts(): Promise<readonly unknown[]> {
      const { stdout } = await run('check', '-o', 'json');
      const { backups } = JSON.parse(stdout) as { readonly backups: readonly { readonly last_attempt: unknown }[] };
      return backups.map((each) => each.last_attempt);
    },
    async [Symbol.asyncDispose]() {
      await database.drop();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe('what fails before a backup begins', () => {
  test('is in the history of each storage, and the last attempt: a hook that says no', async () => {
    await using place = await backedUpOnce();
    await place.configure({ source: 'hooks: { before_backup: [{ run: ["/bin/false"], on_error: abort }] }' });
    expectExit(await place.run('once'), 1);
    const [newest, ...older] = await place.runs();
    expect(newest).toMatchObject({
      source: 'shop',
      database: place.database.name,
      state: 'failed',
      storages: [{ error: { code: 'hook-failed' } }, { error: { code: 'hook-failed' } }],
    });
    expect(older).toMatchObject([{ state: 'succeeded' }]);
    expect(await place.lastAttempts()).toMatchObject([
      { outcome: 'failed', error: { code: 'hook-failed' } },
      { outcome: 'failed', error: { code: 'hook-failed' } },
    ]);
  });

  test('is so for a source with patterns whose server is away, of no database and counted for each', async () => {
    await using place = await backedUpOnce({ patterns: true });
    await place.configure({ url: urlOf('postgres', { port: 1 }) });
    expectExit(await place.run('once'), 1);
    const [newest] = await place.runs();
    expect(newest).toMatchObject({
      source: 'shop',
      state: 'failed',
      storages: [{ error: { code: 'postgres-unreachable' } }, { error: { code: 'postgres-unreachable' } }],
    });
    expect(newest?.database ?? null).toBeNull();
    expect((await place.run('runs', 'shop')).stdout).toMatch(/backup shop /);
    expect(await place.lastAttempts()).toMatchObject([{ outcome: 'failed' }, { outcome: 'failed' }]);
  });
});
