import { readdir, rm } from 'node:fs/promises';
import { Cluster } from '../../support/cluster.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../../support/physical.ts';
import { createBucket } from '../../support/s3.ts';
import { sweptBackup, sweptRestore, type Target, type World } from './operations.ts';
import { LEASE_TERM_MS } from './place.ts';
import type { Swept } from './sweep.ts';
import { openWires, type WireName } from './wires.ts';

const CONTENT = `select md5(string_agg(d::text, '' order by n)) || ' ' || (select count(*) from changed) from data d`;

/** A server of its own with little in it, and a folder for those that are restored. */
export async function openPhysicalWorld(wire: WireName): Promise<World> {
  const stack = new AsyncDisposableStack();
  const cluster = stack.use(await Cluster.start({ initdb: ['--wal-segsize=1'], settings: { max_wal_size: '8MB' } }));
  const folder = stack.use(await ServerFolder.make(cluster.binDir));
  const bucket = stack.use(await createBucket());
  const wires = stack.use(await openWires(wire, { host: '127.0.0.1', port: cluster.port }));
  for (const template of ['template0', 'template1']) {
    await cluster.sql(`update pg_database set datistemplate = false where datname = '${template}'`);
    await cluster.sql(`drop database ${template}`);
  }
  await cluster.sql(`create table data as select n, md5(n::text) as t from generate_series(1, 2000) n;
    create table changed (at int)`);
  let targets = 0;
  const newTarget = (): Target => {
    targets += 1;
    const name = `restored-${targets}-here`;
    const data = folder.join(name);
    let content: string | undefined;
    const made = async (): Promise<readonly string[]> => {
      const all = await readdir(folder.path, { recursive: false });
      const own = all.filter((each) => each.startsWith(name) && !each.endsWith('.log'));
      const filled = await Promise.all(
        own.map(async (each) => ((await readdir(folder.join(each))).length > 0 ? [each] : [])),
      );
      return filled.flat();
    };
    return {
      name,
      args: ['--to-dir', data, '--immediate'],
      async restore(store, _port, id) {
        const selector = id === undefined ? { kind: 'latest' as const } : { kind: 'name' as const, name: id };
        await restoreServer(store, data, { selector });
      },
      made,
      async content() {
        if (content !== undefined) return content;
        const server = await folder.start(data);
        content = await server.value(CONTENT);
        await folder.stop(data);
        return content;
      },
      async [Symbol.asyncDispose]() {
        await folder.stop(data);
        for (const each of await made()) await rm(folder.join(each), { recursive: true });
      },
    };
  };
  return {
    bucket,
    wires,
    serverPort: cluster.port,
    lease: 'base:main',
    database: { source: 'main', url: cluster.url, format: 'physical' },
    async backUp(store, port, limits) {
      const connection = { ...cluster.connection, port };
      const destination = { name: 'store', store, needsDelete: true };
      const changes = { leaseTermMs: LEASE_TERM_MS, ...limits };
      const outcome = await backUpServer({ connection }, [{ destination }], changes);
      return manifestOf(outcome);
    },
    async change() {
      await cluster.sql('insert into changed values (1)');
    },
    content: () => cluster.value(CONTENT),
    target: newTarget,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export function physicalBackup(wire: WireName): Swept {
  return sweptBackup(`backup physical, ${wire}`, () => openPhysicalWorld(wire));
}

export function physicalRestore(): Swept {
  return sweptRestore('restore physical, HTTP', () => openPhysicalWorld('HTTP'));
}
