import { describe, expect, test } from 'vitest';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { Cluster } from '../support/cluster.ts';
import { backupsIn, fileDestination } from '../support/destinations.ts';
import { backUpServer, Load, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { readServerFolders } from './matrix-servers.ts';

const servers = [...(await readServerFolders())];

describe('a physical backup of a server of its own version', { timeout: 120_000 }, () => {
  test.each(servers)(
    'PostgreSQL %i is restored, tablespace and all, with each row up to some moment',
    async (major, binDir) => {
      await using cluster = await Cluster.start({ binDir, initdb: ['--data-checksums', '--wal-segsize=1'] });
      await using folder = await ServerFolder.make(binDir);
      await using disk = await fileDestination('disk');
      const space = folder.join('space');
      await folder.makeFolder(space);
      await cluster.sql(`CREATE TABLESPACE apart LOCATION '${space}'`);
      await cluster.sql(`
      CREATE TABLE there TABLESPACE apart AS SELECT n, md5(n::text) AS t FROM generate_series(1, 5000) AS n;
      CREATE TABLE load (n int PRIMARY KEY, t text)`);
      const load = await Load.start(cluster);
      await load.reached(50);
      const manifest = manifestOf(await backUpServer(cluster, [disk]));
      await load.stop();
      expect(Math.floor(manifest.server.versionNum / 10_000)).toBe(major);
      const request = {
        store: disk.store,
        filter: {},
        selector: undefined,
        deep: true,
        keys: { identities: [], passphrases: [] },
      };
      expect((await verify(request, operationContext())).backups).toMatchObject([
        { depth: 'read', failure: undefined },
      ]);
      expect(await backupsIn(disk.store)).toEqual({ count: 1, leftovers: [] });
      const data = folder.join('data');
      await restoreServer(disk.store, data);
      const server = await folder.start(data);
      expect(await server.value('select count(*) from there')).toBe('5000');
      const [row] = await server.sql<{ count: string; max: string }>('select count(*)::text, max(n)::text from load');
      expect(row?.count).toBe(row?.max);
      expect(Number(row?.max)).toBeGreaterThanOrEqual(50);
      expect(await server.value(`select pg_tablespace_location(oid) from pg_tablespace where spcname = 'apart'`)).toBe(
        `${data}/tablespaces/${manifest.tablespaces?.[0]?.oid}`,
      );
      await server.sql('insert into there values (0)');
      await folder.stop(data);
    },
  );
});
