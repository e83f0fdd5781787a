import { describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Cluster } from '../support/cluster.ts';
import { errorOf, fileDestination } from '../support/destinations.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { backUpServer, manifestOf, type PhysicalBackupOptions } from '../support/physical.ts';
import { load } from '../support/wal-receiving.ts';
import { readServerFolders } from './matrix-servers.ts';

const servers = [...(await readServerFolders())].filter(([major]) => major >= 17);
const keys = { identities: [], passphrases: [] };

/** A server that summarizes its log, and a store that does something in the midst of a backup. */
class World implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly #disk: Awaited<ReturnType<typeof fileDestination>>;
  readonly #store: FaultyStore;

  private constructor(cluster: Cluster, disk: Awaited<ReturnType<typeof fileDestination>>) {
    this.cluster = cluster;
    this.#disk = disk;
    this.#store = new FaultyStore(disk.store, {});
  }

  static async make(binDir: string): Promise<World> {
    const cluster = await Cluster.start({ binDir, initdb: ['--wal-segsize=1'], settings: { summarize_wal: 'on' } });
    return new World(cluster, await fileDestination('disk'));
  }

  async backUp(
    changes: PhysicalBackupOptions = {},
    amid?: () => Promise<void>,
  ): Promise<{ readonly manifest: Manifest; readonly why: string | undefined }> {
    const heard: string[] = [];
    const logger: Logger = { ...silentLogger, warning: (_, words) => void heard.push(words), child: () => logger };
    let isAmid = false;
    this.#store.faults = {
      before: async ({ method, key }) => {
        if (isAmid || method !== 'putStream' || !key.includes('/base/')) return;
        isAmid = true;
        await amid?.();
      },
    };
    const place = { destination: { ...this.#disk.destination, store: this.#store } };
    const outcome = await backUpServer(this.cluster, [place], { incremental: { keys }, logger, ...changes });
    return { manifest: manifestOf(outcome), why: heard.find((words) => words.startsWith('a full backup')) };
  }

  async writesBeyond({ stopLsn = '0/0' }: Manifest): Promise<void> {
    do await this.cluster.sql(load(2_500));
    while (parseLsn(await this.cluster.value('select pg_current_wal_lsn()')) < parseLsn(stopLsn) + 2n ** 20n);
  }

  /** Writes so much that the server is behind the position, and says so. */
  async passes(manifest: Manifest): Promise<void> {
    const { stopLsn = '0/0' } = manifest;
    await this.writesBeyond(manifest);
    await this.cluster.sql('checkpoint');
    await this.cluster.sql('select pg_switch_wal()');
    await this.cluster.sql('checkpoint');
    await this.cluster.until(`exists (select from pg_available_wal_summaries() where end_lsn > '${stopLsn}'::pg_lsn)`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disk[Symbol.asyncDispose]();
    await this.cluster[Symbol.asyncDispose]();
  }
}

describe.each(servers)('an incremental backup of PostgreSQL %i', { timeout: 170_000 }, (_major, binDir) => {
  test('is a full one where the server was put back to a state before the last backup', async () => {
    await using world = await World.make(binDir);
    const { cluster } = world;
    await world.backUp();
    await cluster.sql(load(100));
    await using state = await cluster.keepState();
    await cluster.sql(load(500));
    const { manifest } = await world.backUp();
    expect(manifest.parents).toHaveLength(1);
    await cluster.stop();
    await state.putBack();
    await cluster.start();
    await world.passes(manifest);
    const named = await errorOf(world.backUp({ incremental: { keys, from: manifest.id } }));
    expect(named).toMatchObject({
      code: 'usage',
      message: expect.stringContaining('was put back to an earlier state'),
    });
    const { manifest: full, why } = await world.backUp();
    expect(why).toContain(`has no checkpoint at ${manifest.startLsn}, where ${manifest.id} began`);
    expect(full.parents).toEqual([]);
    expect((await world.backUp()).manifest.parents).toEqual([full.id]);
  });

  test('is a full one also where that shows only when the server has begun to send', async () => {
    await using world = await World.make(binDir);
    const { cluster } = world;
    await world.backUp();
    await using state = await cluster.keepState();
    await cluster.sql(load(500));
    const { manifest } = await world.backUp();
    await cluster.stop();
    await state.putBack();
    await cluster.start();
    // It is behind the last backup, and has not summarized it.
    await world.writesBeyond(manifest);
    const named = await errorOf(world.backUp({ incremental: { keys, from: manifest.id } }));
    expect(named).toMatchObject({
      code: 'postgres-failed',
      message: expect.stringContaining('was put back to an earlier state'),
    });
    await cluster.stop();
    await state.bringForward();
    await state.putBack();
    await cluster.start();
    await world.writesBeyond(manifest);
    const { manifest: full, why } = await world.backUp();
    expect(why).toContain(`has no checkpoint at ${manifest.startLsn}, where ${manifest.id} began`);
    expect(full.parents).toEqual([]);
  });

  test('is a full one where the server was put back into the midst of the last backup', async () => {
    await using world = await World.make(binDir);
    const { cluster } = world;
    let state: Awaited<ReturnType<Cluster['keepState']>> | undefined;
    const { manifest } = await world.backUp({}, async () => {
      state = await cluster.keepState({ goesOn: true });
      await cluster.sql(load(50));
    });
    await cluster.stop();
    await state?.putBack();
    await cluster.start();
    await world.passes(manifest);
    const { manifest: full, why } = await world.backUp();
    expect(why).toMatch(new RegExp(`has a checkpoint at 0/\\w+, within ${manifest.id}`));
    expect(full.parents).toEqual([]);
  });

  test('is one where a checkpoint fell into the last backup, as into any that lasts', async () => {
    await using world = await World.make(binDir);
    const { manifest } = await world.backUp({}, async () => {
      await world.cluster.sql(load(1_500));
      await world.cluster.sql('checkpoint');
      await world.cluster.sql(load(1_500));
    });
    await world.passes(manifest);
    expect(await world.backUp()).toMatchObject({ manifest: { parents: [manifest.id] }, why: undefined });
  });
});
