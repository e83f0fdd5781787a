import { describe, expect, test } from 'vitest';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { Secret } from '../../src/common/secret.ts';
import { copyBackup } from '../../src/operations/copy/copy.ts';
import { operationContext } from '../../src/operations/context.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { Cluster } from '../support/cluster.ts';
import { fileDestination, s3Destination } from '../support/destinations.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { readServerFolders } from './matrix-servers.ts';

const servers = [...(await readServerFolders())].filter(([major]) => major >= 17);

describe('a copy of a chain of incremental backups', { timeout: 170_000 }, () => {
  test.each(servers)('PostgreSQL %i: restores by itself, and goes on where it lies', async (_major, binDir) => {
    const settings = { summarize_wal: 'on', autovacuum: 'off' };
    await using cluster = await Cluster.start({ binDir, initdb: ['--data-checksums', '--wal-segsize=1'], settings });
    await using folder = await ServerFolder.make(binDir);
    await using bucket = await s3Destination('bucket');
    const identity = await generateIdentity();
    const sealer = await ageSealer({ recipients: [await identityToRecipient(identity)] });
    const keys = { identities: [new Secret(identity)], passphrases: [] };
    const how = { seal: { compression: { algorithm: 'zstd', level: 1 }, sealer }, incremental: { keys } } as const;
    await cluster.sql(
      'CREATE TABLE here AS SELECT n, repeat(md5(n::text), 9) AS t FROM generate_series(1, 30000) AS n',
    );
    const parents: string[] = [];
    {
      await using disk = await fileDestination('disk');
      let newest = manifestOf(await backUpServer(cluster, [disk], how));
      for (const divisor of [500, 700]) {
        parents.unshift(newest.id);
        await cluster.sql(`UPDATE here SET t = upper(t) WHERE n % ${divisor} = 0`);
        newest = manifestOf(await backUpServer(cluster, [disk], how));
        expect(newest.parents).toEqual(parents);
      }
      parents.unshift(newest.id);
      const from = [{ name: 'disk', store: disk.store }];
      const to = { name: 'bucket', store: bucket.store };
      // Without a key.
      const request = { manifest: newest, from, to, leaseTermMs: 60_000, dryRun: false };
      const { backups, wal } = await copyBackup(request, operationContext());
      expect(backups.map(({ manifest: { id }, state }) => [id, state])).toEqual(
        parents.toReversed().map((id) => [id, 'copied']),
      );
      expect(wal?.objects).toBeGreaterThanOrEqual(3);
      expect((await copyBackup(request, operationContext())).backups.map(({ state }) => state)).toEqual(
        parents.map(() => 'present'),
      );
    }
    const sum = `select md5(string_agg(r::text, '' order by r::text)) from here r`;
    const data = folder.join('data');
    await restoreServer(bucket.store, data, { keys });
    const server = await folder.start(data);
    expect(await server.value(sum)).toBe(await cluster.value(sum));
    await folder.stop(data);
    const next = manifestOf(await backUpServer(cluster, [bucket], how));
    expect(next.parents).toEqual(parents);
  });
});
