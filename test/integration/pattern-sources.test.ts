import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, urlOf } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { startDaemon } from '../support/daemon.ts';
import { type HttpReceiver, startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase, createRole, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

const SQL = 'CREATE TABLE t AS SELECT 1 AS n';
const nowhere = urlOf('postgres', { port: 1 });

/** A source whose databases are those of one prefix, in a configuration of its own. */
async function patternSource(said: { readonly more?: string } = {}) {
  const folder = await makeTempDirectory();
  await mkdir(folder.join('backups'));
  const prefix = `of ${randomBytes(4).toString('hex')}`;
  const configure = async (change: { url?: string; source?: string; patterns?: readonly string[] } = {}) => {
    const { url = urlOf('postgres'), source = '', patterns = [`${prefix} *`] } = change;
    await writeFile(
      folder.join('pgark.yaml'),
      `
version: 1
storages: { near: { type: file, path: backups } }
${said.more ?? 'defaults: { retry: { attempts: 0 } }'}
databases:
  main: { url: ${JSON.stringify(url)}, databases: ${JSON.stringify(patterns)}, globals: none, ${source} jobs: { nightly: { format: plain, schedule: "0 2 * * *" } } }
`,
    );
  };
  await configure();
  return {
    path: folder.path,
    prefix,
    configure,
    run: (...args: string[]) =>
      runPgark([...args, '--config', 'pgark.yaml'], { cwd: folder.path, env: { LOG_FORMAT: 'text' } }),
    database: (): Promise<TestDatabase> => createDatabase({ name: prefix, sql: SQL }),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

interface Checked {
  readonly database: string;
  readonly overdue?: boolean;
  readonly backups: number;
  readonly last_attempt: { readonly outcome: string; readonly error?: { readonly code: string } } | null;
}

/** What `pgark check -o json` says of each line of backups, by its database. */
function checkedIn({ stdout }: RunResult): ReadonlyMap<string, Checked> {
  const { backups } = JSON.parse(stdout) as { readonly backups: readonly Checked[] };
  return new Map(backups.map((each) => [each.database, each]));
}

describe('how well a source with patterns is protected', () => {
  test('is asked of its server: what was never backed up counts, what was dropped does not', async () => {
    await using place = await patternSource();
    await using first = await place.database();
    const never = await place.run('check', '-o', 'json');
    expectExit(never, 22);
    expect([...checkedIn(never)]).toMatchObject([[first.name, { overdue: true, backups: 0, last_attempt: null }]]);
    expectExit(await place.run('healthcheck', '--no-daemon'), 1);

    expectExit(await place.run('once'), 0);
    await using second = await place.database();
    // It has until the next due time: the newest run of the source has not met it.
    const young = await place.run('check', '-o', 'json');
    expectExit(young, 0);
    expect(checkedIn(young).get(second.name)).toMatchObject({ overdue: false, backups: 0 });
    expect(young.stdout).toContain('no backup yet');

    await place.configure({ source: 'expect: { max_age: 1s },' });
    await delay(1_500);
    await first.drop();
    const dropped = await place.run('check', '-o', 'json');
    expectExit(dropped, 22);
    expect(checkedIn(dropped).get(second.name)).toMatchObject({ overdue: true });
    expect(checkedIn(dropped).get(first.name)).toMatchObject({ backups: 1 });
    expect(checkedIn(dropped).get(first.name)).not.toHaveProperty('overdue');
  });

  test('goes by what is known of it while its server is away, and by the patterns alone if nothing is', async () => {
    await using place = await patternSource();
    await using kept = await place.database();
    await using left = await place.database();
    await place.configure({ url: nowhere });
    const nothing = await place.run('check', '-o', 'json');
    expectExit(nothing, 22);
    expect([...checkedIn(nothing).keys()]).toEqual(['*']);
    await place.configure({ url: nowhere, patterns: ['by name', `${place.prefix} *`] });
    expect([...checkedIn(await place.run('check', '-o', 'json')).keys()]).toEqual(['by name']);

    await place.configure();
    expectExit(await place.run('once'), 0);
    await place.configure({
      url: nowhere,
      source: 'expect: { max_age: 1s },',
      patterns: [`${place.prefix} *`, `!${left.name}`],
    });
    await delay(1_500);
    const away = await place.run('check', '-o', 'json');
    expectExit(away, 22);
    expect(checkedIn(away).get(kept.name)).toMatchObject({ overdue: true });
    expect(checkedIn(away).get(left.name)).not.toHaveProperty('overdue');
  });

  test('counts what the role may not connect to any more, and not what it never could', async () => {
    await using role = await createRole('SUPERUSER');
    await using place = await patternSource();
    await using lost = await place.database();
    await place.configure({ url: urlOf('postgres', role), source: 'expect: { max_age: 1s },' });
    expectExit(await place.run('once'), 0);
    await using never = await place.database();
    await using open = await place.database();
    for (const { name } of [lost, never])
      await runAsSuperuser(`REVOKE CONNECT ON DATABASE ${escapeIdentifier(name)} FROM PUBLIC`);
    await runAsSuperuser(`ALTER ROLE ${escapeIdentifier(role.user)} NOSUPERUSER`);
    await delay(1_500);
    const checked = checkedIn(await place.run('check', '-o', 'json'));
    expect(new Map([...checked].map(([name, { overdue }]) => [name, overdue]))).toEqual(
      new Map([
        [lost.name, true],
        [open.name, true],
      ]),
    );
  });

  test('has series in the metrics of a daemon from its start, also while the server is away', async () => {
    await using place = await patternSource();
    await using database = await place.database();
    await place.configure({ url: nowhere });
    await using daemon = startDaemon({}, ['--config', 'pgark.yaml'], { cwd: place.path });
    const [listening] = await daemon.until('http.listening');
    const scrape = async (): Promise<string> =>
      (await fetch(`http://127.0.0.1:${String(listening?.['port'])}/metrics`)).text();
    const series = (name: string): string => `pgark_backup_overdue{source="main",database="${name}",`;
    await vi.waitUntil(async () => (await scrape()).includes(series('*')), { timeout: 240_000, interval: 200 });
    await place.configure();
    await daemon.kill('SIGHUP');
    await vi.waitUntil(async () => (await scrape()).includes(series(database.name)), {
      timeout: 240_000,
      interval: 200,
    });
    expect(await scrape()).not.toContain(series('*'));
    await daemon.stop();
  });
});

describe('notifications of a source with patterns', () => {
  /** The events that a webhook was told, in a few words each. */
  const told = (requests: HttpReceiver['requests']): string[] =>
    requests.map(({ body }) => {
      const { event, database, error } = (
        JSON.parse(body) as {
          readonly data: {
            readonly event: string;
            readonly database?: string;
            readonly error?: { readonly code: string };
          };
        }
      ).data;
      return [event, database ?? 'all', error?.code].filter((part) => part !== undefined).join(' ');
    });

  test('tell each outage of its server, and each end of one', async () => {
    await using hook = await startReceiver([status(200)]);
    await using place = await patternSource({
      more: `notifications: { hook: { type: webhook, url: "${hook.origin}/x", on: [failure, recovery] }, ops: { type: slack, url: "${hook.origin}/slack", on: [failure] } }
defaults: { notify: [hook, ops], retry: { attempts: 0 } }`,
    });
    await using database = await place.database();
    const texts: string[] = [];
    const round = async (url: string, exit: number): Promise<string[]> => {
      await place.configure({ url });
      const before = hook.requests.length;
      expectExit(await place.run('once'), exit);
      const fresh = hook.requests.slice(before);
      texts.push(...fresh.filter(({ url: path }) => path.startsWith('/slack')).map(({ body }) => body));
      return told(fresh.filter(({ url: path }) => path.startsWith('/x')));
    };
    const recovered = [`recovery ${database.name}`];
    expect(await round(nowhere, 1)).toEqual(['failure all postgres-unreachable']);
    expect(await round(nowhere, 1)).toEqual([]);
    expect(await round(urlOf('postgres'), 0)).toEqual(recovered);
    expect(await round(nowhere, 1)).toEqual(['failure all postgres-unreachable']);
    expect(await round(urlOf('postgres'), 0)).toEqual(recovered);
    expect(texts).toHaveLength(2);
    expect(texts[0]).toContain('There is no good copy yet');
    expect(texts[1]).toContain('Last good copy');
  });
});

describe('one database that fails among those of a source', () => {
  test('is named, ends the command with 4, and stops no other', async () => {
    await using role = await createRole();
    await using place = await patternSource();
    await using first = await place.database();
    await using last = await place.database();
    expectExit(await place.run('once'), 0);
    await using denied = await place.database();
    for (const each of [first, last]) await each.query(`GRANT SELECT ON t TO ${escapeIdentifier(role.user)}`);
    await place.configure({ url: urlOf('postgres', role) });
    const result = await place.run('once', '-o', 'json');
    expectExit(result, 4);
    const { results } = JSON.parse(result.stdout) as { readonly results: readonly Readonly<Record<string, unknown>>[] };
    const states = new Map(results.map(({ database, state }) => [database, state]));
    expect(states).toEqual(
      new Map([
        [first.name, 'committed'],
        [denied.name, 'failed'],
        [last.name, 'committed'],
      ]),
    );
    expect(results.find(({ state }) => state === 'failed')).toMatchObject({
      source: 'main',
      storage: 'near',
      error: { code: expect.any(String) },
    });
    expect(result.stderr).toContain(`main/${denied.name} to near: error `);
    const checked = checkedIn(await place.run('check', '-o', 'json'));
    expect(checked.get(denied.name)).toMatchObject({ backups: 0, last_attempt: { outcome: 'failed' } });
    for (const { name } of [first, last]) expect(checked.get(name)).toMatchObject({ backups: 2 });
  });
});
