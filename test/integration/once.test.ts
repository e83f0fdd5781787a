import { readdir, writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, fileStorage, startPgark, substance, urlOf } from '../support/backups.ts';
import { runPgark, type RunResult } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

const SQL = 'create table t as select generate_series(1, 1000) as id';

/** Runs `pgark once` with these databases, each with a job that has a schedule and one that has none. */
async function once(urls: Readonly<Record<string, string>>) {
  await using folder = await makeTempDirectory();
  const sections = Object.entries(urls).map(
    ([name, url]) =>
      `  ${name}:\n    url: ${JSON.stringify(url)}\n    jobs: { nightly: { format: plain, schedule: "@daily", to: [near] }, byhand: { format: plain, to: [far] } }\n`,
  );
  const storages = 'storages:\n  near: { type: file, path: near }\n  far: { type: file, path: far }\n';
  await writeFile(folder.join('pgark.yaml'), `version: 1\n${storages}databases:\n${sections.join('')}`);
  const result = await runPgark(['once', '--config', 'pgark.yaml', '-o', 'json'], {
    cwd: folder.path,
    env: { LOG_FORMAT: 'text' },
  });
  const report = JSON.parse(result.stdout) as {
    results: { source: string; storage: string; state: string; error?: { code: string } }[];
  };
  return { ...result, results: report.results };
}

describe.concurrent('pgark once', () => {
  test('runs every job one time and exits with 0', async () => {
    await using shop = await createDatabase({ sql: SQL });
    await using orders = await createDatabase({ sql: SQL });
    const result = await once({ shop: shop.url, orders: orders.url });
    expectExit(result, 0);
    expect(result.results.map(({ source, storage, state }) => `${source} ${storage} ${state}`)).toEqual([
      'shop near committed',
      'shop far committed',
      'orders near committed',
      'orders far committed',
    ]);
  });

  test('exits with 4 where some failed, and does the others', async () => {
    await using shop = await createDatabase({ sql: SQL });
    const result = await once({ broken: urlOf(shop.name, { password: 'wrong' }), shop: shop.url });
    expectExit(result, 4);
    expect(result.results.map(({ state }) => state)).toEqual(['failed', 'failed', 'committed', 'committed']);
    expect(result.stderr).toContain(`broken/${shop.name} to near: error `);
  });

  test('exits with 20 where a backup is damaged, whatever else failed, and tells of both', async () => {
    await using folder = await makeTempDirectory();
    await using shop = await createDatabase({ sql: SQL });
    const section = (url: string): object => ({ url, globals: 'none', jobs: { nightly: { format: 'plain' } } });
    const settings = {
      version: 1,
      storages: { near: { type: 'file', path: 'near' } },
      databases: {
        shop: { ...section(shop.url), verify: { schedule: '@daily' } },
        broken: section(urlOf(shop.name, { password: 'wrong' })),
      },
    };
    await writeFile(folder.join('pgark.yaml'), JSON.stringify(settings));
    const pgark = (...args: readonly string[]): Promise<RunResult> =>
      runPgark(['once', ...args, '--config', 'pgark.yaml'], { cwd: folder.path, env: { LOG_FORMAT: 'text' } });
    expectExit(await pgark('--prove'), 4);
    const [dump = ''] = (await readdir(folder.join('near'))).filter((name) => name.includes('.sql'));
    await writeFile(folder.join('near', dump), 'cut off');
    expectExit(await pgark(), 4);
    const found = await pgark('--prove');
    expectExit(found, 20);
    expect(found.stderr).toContain(`broken/${shop.name} to near: error `);
    expect(found.stderr).toMatch(/^error .*truncated or replaced/m);
  });

  test('exits with the first error’s own code where nothing could be done', async () => {
    await using shop = await createDatabase({ sql: SQL });
    const result = await once({ broken: urlOf(shop.name, { password: 'wrong' }) });
    expectExit(result, 1);
    expect(result.results.map(({ error }) => error?.code)).toEqual(['postgres-auth-failed', 'postgres-auth-failed']);
  });

  test('exits with 11 where another run is at work, and with 130 when it is interrupted', async () => {
    await using storage = await fileStorage();
    await using shop = await createDatabase({
      sql: 'create table t as select md5(n::text) from generate_series(1, 200000) n',
    });
    await using proxy = await startTcpProxy(postgresFacts());
    const env = { ...storage.env, BACKUP_COMPRESSION: 'none', DATABASE_URL: shop.url };
    const held = proxy.holdAfter(2 ** 20);
    const first = startPgark(['once'], { env: { ...env, DATABASE_URL: urlOf(shop.name, { port: proxy.port }) } });
    await held;
    expectExit(await runPgark(['once'], { env }), 11);
    await first.kill('SIGHUP');
    expectExit(await first.result, 130);
    expect(await substance(storage)).toEqual([]);
  });
});
