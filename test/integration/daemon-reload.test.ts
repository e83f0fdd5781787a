import { writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { filler, s3Storage, urlOf } from '../support/backups.ts';
import { CONFIG, configFile, startDaemon } from '../support/daemon.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

describe.concurrent('pgark daemon at SIGHUP', () => {
  test('reads its configuration again: what is right is applied, what is wrong is told of and left', async () => {
    await using folder = await makeTempDirectory();
    await using one = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using two = await createDatabase({ sql: 'create table t as select 2 as n' });
    await configFile(folder.path, { one: { url: one.url, schedule: '1s' } });
    await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
    await daemon.until('job.succeeded', { job: 'one/often' });

    await configFile(folder.path, { one: { url: one.url, schedule: 'every now and then' } });
    await daemon.kill('SIGHUP');
    const [kept] = await daemon.until('daemon.reload_failed');
    expect(kept).toMatchObject({ level: 'ERROR', code: 'cron-invalid' });
    const before = daemon.of('job.succeeded', 'one/often').length;
    await daemon.until('job.succeeded', { job: 'one/often', count: before + 2 });

    await configFile(folder.path, { two: { url: two.url, schedule: '1s' } });
    await daemon.kill('SIGHUP');
    await daemon.until('daemon.reloaded');
    const after = daemon.lines.length;
    await daemon.until('job.succeeded', { job: 'two/often', count: 3 });
    const begun = daemon.lines.slice(after).filter(({ event }) => event === 'job.started');
    expect(new Set(begun.map(({ job }) => job))).toEqual(new Set(['two/often']));
    await daemon.stop();
  });

  test('which comes while it starts does so once it has started', async () => {
    await using folder = await makeTempDirectory();
    await using database = await createDatabase();
    await configFile(folder.path, { shop: { url: database.url, schedule: '0 0 1 1 *' } });
    // As soon as anybody would hear of it.
    await writeFile(
      folder.join('hangup.mjs'),
      `const { on } = process;
       process.on = (name, ...listener) => {
         on.call(process, name, ...listener);
         if (name === 'SIGHUP') process.kill(process.pid, name);
         return process;
       };`,
    );
    const env = { NODE_OPTIONS: `--import=${folder.join('hangup.mjs')}` };
    await using daemon = startDaemon(env, CONFIG, { cwd: folder.path });
    await daemon.until('daemon.reloaded');
    await daemon.stop();
  });

  test('goes on answering its monitors, with what it knew, until the storages are read again', async () => {
    await using folder = await makeTempDirectory();
    await using bucket = await s3Storage();
    await using database = await createDatabase();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages:
  far: ${JSON.stringify(bucket.bucket.inFile(proxy.endpoint))}
databases:
  shop: { url: ${JSON.stringify(database.url)}, jobs: { often: { schedule: 1h } } }
`,
    );
    await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
    const [listening] = await daemon.until('http.listening');
    const metrics = async (): Promise<Response> => fetch(`http://127.0.0.1:${String(listening?.['port'])}/metrics`);
    await daemon.until('job.succeeded');
    await vi.waitUntil(
      async () => /^pgark_backup_last_success_timestamp_seconds\{.* \d/m.test(await (await metrics()).text()),
      { timeout: 240_000 },
    );
    proxy.setFaults(() => ({ kind: 'silence' }));
    await daemon.kill('SIGHUP');
    await daemon.until('daemon.reloaded');
    const answer = await metrics();
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain('source="shop"');
    await daemon.stop();
  });

  test('waits for nothing that runs: the next reload is applied, and the end has its grace period', async () => {
    await using folder = await makeTempDirectory();
    await using one = await createDatabase({ sql: filler(4) });
    await using two = await createDatabase({ sql: 'create table t as select 2 as n' });
    await using proxy = await startTcpProxy(postgresFacts());
    const held = { url: urlOf(one.name, { port: proxy.port }), schedule: '1h' };
    const extra = 'server: { stop_grace: 1s }\ndefaults: { compression: none }\n';
    await configFile(folder.path, { held }, extra);
    await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
    await proxy.holdAfter(2 * MIB);
    await daemon.kill('SIGHUP');
    await daemon.until('daemon.reloaded');
    await configFile(folder.path, { held, quick: { url: two.url, schedule: '1s' } }, extra);
    await daemon.kill('SIGHUP');
    await daemon.until('job.succeeded', { job: 'quick/often' });
    expect(daemon.of('daemon.reloaded')).toHaveLength(2);
    // It is never released: only the abort after the grace period ends it.
    await daemon.stop();
    expect(daemon.of('job.interrupted', 'held/often')).toHaveLength(1);
  });
});
