import { randomBytes } from 'node:crypto';
import { CreateMultipartUploadCommand } from '@aws-sdk/client-s3';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import {
  expectRestores,
  filler,
  fileStorage,
  s3Storage,
  SHORT_LEASE,
  startPgark,
  substance,
  succeed,
  untilExit,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase, openDatabase, runAsSuperuser } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

describe.concurrent('after SIGKILL the next run removes what the dead one left, and nothing else', () => {
  test('in mid-upload into a bucket that others use too', async () => {
    const name = `shop${randomBytes(5).toString('hex')}`;
    await using storage = await s3Storage();
    await using shop = openDatabase(name);
    await using neighbour = openDatabase(`${name}-eu`);
    for (const each of [shop, neighbour]) await runAsSuperuser(`CREATE DATABASE ${escapeIdentifier(each.name)}`);
    await shop.query(filler(12));
    await neighbour.query(filler(1));
    const { bucket } = storage;
    const env = { ...storage.env, BACKUP_COMPRESSION: 'none' };
    await succeed(['backup'], { ...env, DATABASE_URL: neighbour.url });
    await succeed(['backup'], { ...env, DATABASE_URL: shop.url });
    // What another program keeps there, under names that begin like ours.
    await bucket.put(`${name}_2026-11-20T02:00:00Z.sql.gz`, 'a dump that somebody made by hand');
    await bucket.put(`${name}/readme`, 'foreign');
    await bucket.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.name, Key: `${name}_video` }));
    const before = await substance(storage);
    const uploadsBefore = await storage.openUploads();

    await using proxy = await startTcpProxy(postgresFacts());
    const held = proxy.holdAfter(10 * MIB);
    const run = startPgark(['backup'], {
      env: { ...env, ...SHORT_LEASE, DATABASE_URL: urlOf(name, { port: proxy.port }) },
    });
    await held;
    await vi.waitUntil(async () => (await storage.openUploads()).length > uploadsBefore.length, { timeout: 300_000 });
    await run.kill('SIGKILL');
    expect(await run.result).toMatchObject({ signal: 'SIGKILL' });
    expect((await substance(storage)).filter((key) => !before.includes(key))).toEqual([
      expect.stringMatching(/^\.pgark\/intents\//),
    ]);

    // The neighbour's run does not wait for the dead one's lease, and leaves its things alone while that may live.
    await succeed(['backup'], { ...env, DATABASE_URL: neighbour.url });
    const next = await untilExit(0, [11], () => runPgark(['backup'], { env: { ...env, DATABASE_URL: shop.url } }));
    expect(next.stderr).toMatch(/SUCCESS backed up/);
    expect(await storage.openUploads()).toEqual(uploadsBefore);
    const after = await substance(storage);
    expect(after).toEqual(expect.arrayContaining(before));
    expect(after).toHaveLength(before.length + 4);
    expect(after.filter((key) => key.startsWith('.pgark/intents/'))).toEqual([]);
    await expectRestores(shop, { ...storage, env });
    await expectRestores(neighbour, { ...storage, env });
  });

  test('with all data in the bucket and no manifest yet', async () => {
    await using storage = await s3Storage();
    await using database = await createDatabase({ sql: filler(1) });
    await using store = await startFaultProxy(s3Facts().endpoint);
    const env = { ...storage.env, DATABASE_URL: database.url };
    const reached = Promise.withResolvers<void>();
    store.setFaults(({ operation, url }) => {
      if (operation !== 'PutObject' || !url.pathname.includes('/.pgark/backups/')) return undefined;
      reached.resolve();
      return { kind: 'silence' };
    });
    const run = startPgark(['backup'], { env: { ...env, ...SHORT_LEASE, S3_ENDPOINT: store.endpoint } });
    await reached.promise;
    await run.kill('SIGKILL');
    await run.result;
    expect(await substance(storage)).toEqual([
      expect.stringMatching(/^\.pgark\/intents\//),
      expect.stringMatching(/\.sql\.gz$/),
    ]);
    // It is no backup: nobody is told that it is one.
    const listed = await succeed(['list'], env);
    expect(listed.stdout).toMatch(/no backups in .* yet\n(.*\n)*unfinished: /);
    await untilExit(0, [11], () => runPgark(['backup'], { env }));
    expect(await substance(storage)).toEqual([
      expect.stringMatching(/^\.pgark\/backups\//),
      expect.stringMatching(/\.sql\.gz$/),
    ]);
    await succeed(['verify', '--deep'], env);
  });

  test('in mid-dump into a directory', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ sql: filler(4) });
    await using proxy = await startTcpProxy(postgresFacts());
    const env = { ...storage.env, DATABASE_URL: database.url, BACKUP_COMPRESSION: 'none' };
    const held = proxy.holdAfter(2 * MIB);
    const run = startPgark(['backup'], {
      env: { ...env, ...SHORT_LEASE, DATABASE_URL: urlOf(database.name, { port: proxy.port }) },
    });
    await held;
    await run.kill('SIGKILL');
    await run.result;
    expect((await substance(storage)).length).toBeGreaterThan(0);
    await untilExit(0, [11], () => runPgark(['backup'], { env }));
    expect(await substance(storage)).toEqual([
      expect.stringMatching(/^\.pgark\/backups\//),
      expect.stringMatching(/\.sql$/),
    ]);
    await expectRestores(database, storage);
  });
});
