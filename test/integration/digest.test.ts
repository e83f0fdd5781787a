import { writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, fileStorage, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { startDaemon } from '../support/daemon.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase } from '../support/postgres.ts';
import { startSmtpReceiver } from '../support/smtp-receiver.ts';
import { makeTempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

const MAIL_PASSWORD = 'mail-p4ssw0rd-78';

/** A configuration of one database that is told by mail and by a webhook. */
async function open(url: string, mail = '') {
  const folder = await makeTempDirectory();
  const storage = await fileStorage();
  const smtp = await startSmtpReceiver({ login: { user: 'pgark', password: MAIL_PASSWORD } });
  const hook = await startReceiver([status(200)]);
  const configure = (database: string): Promise<void> =>
    writeFile(
      folder.join('pgark.yaml'),
      `
version: 1
server: { listen: "127.0.0.1:0" }
storages: { near: { type: file, path: ${storage.path} } }
notifications:
  mail: { type: email, smtp: "smtp://pgark@127.0.0.1:${smtp.port}", password: ${MAIL_PASSWORD}, to: [dba@example.com], on: [], digest: ${mail || '"0 8 * * 1"'} }
  hook: { type: webhook, url: "${hook.origin}/hook", on: [] }
  ping: { type: healthchecks, url: "${hook.origin}/ping", on: [] }
defaults: { notify: [mail, hook, ping], retry: { attempts: 0 } }
databases:
  shop: { url: ${JSON.stringify(database)}, globals: none, jobs: { nightly: { format: plain, to: [near], schedule: "0 2 * * *" } } }
`,
    );
  await configure(url);
  const file = folder.join('pgark.yaml');
  return {
    smtp,
    hook,
    file,
    configure,
    run: (...args: string[]) => runPgark([...args, '--config', file]),
    async [Symbol.asyncDispose]() {
      for (const each of [smtp, hook, storage, folder]) await each[Symbol.asyncDispose]();
    },
  };
}

const plain = (source = ''): string => source.replaceAll(/=\r\n/g, '').replaceAll('\r\n', '\n');

describe('notify digest', () => {
  test('says what is protected, goes on from the one before, and says what is not', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using place = await open(database.url);
    expectExit(await place.run('backup'), 0);

    const dry = await place.run('notify', 'digest', '--dry-run');
    expectExit(dry, 0);
    expect(dry.stdout).toContain('mail (email): pgark: shop/');
    expect(dry.stdout).toMatch(/ is protected\.\n[^]*backup: 1 done, 0 failed/);
    expect(place.smtp.mails).toEqual([]);

    expectExit(await place.run('notify', 'digest'), 0);
    expect(place.smtp.mails).toHaveLength(1);
    expect(plain(place.smtp.mails[0]?.source)).toMatch(/plain on near: last .* 1 kept, next \d/);
    expect(place.hook.requests).toEqual([]);

    expectExit(await place.run('backup'), 0);
    await place.configure(urlOf(database.name, { port: 1 }));
    const failed = await place.run('backup');
    expectExit(failed, 1);
    const sent = await place.run('notify', 'digest', 'mail', 'hook', '-o', 'json');
    expectExit(sent, 0);
    const { digests } = JSON.parse(sent.stdout) as { digests: { name: string; digest: Record<string, unknown> }[] };
    expect(digests.map(({ name }) => name)).toEqual(['mail', 'hook']);
    expect(digests[0]?.digest).toMatchObject({
      protected: false,
      runs: [{ kind: 'backup', succeeded: 1, failed: 1 }],
      standing: [{ message: expect.stringContaining('cannot reach PostgreSQL') }],
      failures: [{ kind: 'backup', source: 'shop', storages: ['near'], times: 1, works_again: false }],
      storages: [{ storage: 'near', grown_bytes: expect.any(Number) }],
    });
    // The webhook never had one: it is told of all that there was.
    expect(digests[1]?.digest).toMatchObject({ runs: [{ kind: 'backup', succeeded: 2, failed: 1 }] });
    expect(place.smtp.mails).toHaveLength(2);
    expect(place.hook.requests.map(({ body }) => JSON.parse(body) as unknown)).toEqual([
      expect.objectContaining({
        type: 'digest.made',
        data: expect.objectContaining({ event: 'digest', channel: 'hook' }),
      }),
    ]);
    const said = [dry, failed, sent].map(({ stdout, stderr }) => stdout + stderr).join('');
    expect(said + place.smtp.mails.map(({ source }) => source).join('')).not.toContain(MAIL_PASSWORD);
  });

  test('refuses a ping, and says what became of one that does not arrive', async () => {
    await using place = await open('postgres://u@127.0.0.1:1/shop');
    const ping = await place.run('notify', 'digest', 'ping');
    expectExit(ping, 2);
    expect(ping.stderr).toContain('nobody to read');
    await place.smtp[Symbol.asyncDispose]();
    const away = await place.run('notify', 'digest', 'mail');
    expectExit(away, 1);
    expect(away.stdout).toContain('✖ mail (email): the mail server cannot be reached');
  });
});

describe('the daemon', () => {
  test('sends a digest by its schedule, and one that starts again goes on from there', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using place = await open(database.url, '1h');
    expectExit(await place.run('backup'), 0);
    for (let start = 0; start < 2; start += 1) {
      await using daemon = startDaemon({}, ['--config', place.file]);
      if (start === 0) await daemon.until('digest.sent');
      else await daemon.until('http.listening');
      await daemon.stop();
    }
    expect(place.smtp.mails).toHaveLength(1);
    expect(plain(place.smtp.mails[0]?.source)).toMatch(/ is protected\.\n/);
  });
});
