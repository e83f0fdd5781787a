import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { generateAgeIdentity } from '../../src/pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { parseWalKey } from '../../src/repository/wal-keys.ts';
import { Cluster } from '../support/cluster.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { rotten } from '../support/rot.ts';
import { load } from '../support/wal-receiving.ts';

test('a bit that turned in any object of a physical backup is told by the object’s name, and nothing is restored', {
  timeout: 480_000,
}, async () => {
  await using primary = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using folder = await ServerFolder.make(primary.binDir);
  // Of a standby, whose last segment is archived in parts; and on a timeline that has a history.
  await primary.stop();
  await writeFile(path.join(primary.dataDirectory, 'standby.signal'), '');
  await primary.start();
  await primary.promote();
  await using standby = await primary.standby();
  const store = new MemoryStore();
  const { identity, recipient } = await generateAgeIdentity();
  const keys = { identities: [identity], passphrases: [] };
  const seal = {
    compression: { algorithm: 'zstd', level: 1 },
    sealer: await ageSealer({ recipients: [recipient] }),
  } as const;
  await primary.sql('checkpoint');
  await primary.sql(load(1_100));
  const end = await primary.value('select pg_current_wal_flush_lsn()');
  await standby.until(`pg_last_wal_replay_lsn() >= '${end}'`);
  const place = { destination: { name: 'memory', store, needsDelete: false } };
  const manifest = manifestOf(await backUpServer(standby, [place], { seal }));
  const kinds = [...store.objects.keys()].map((key) => parseWalKey(key)?.kind);
  expect(new Set(kinds)).toEqual(new Set(['segment', 'delta', 'history', undefined]));
  const ofBackup = new Set(manifest.objects.map(({ key }) => key));
  const isOfBackup = (key: string): boolean =>
    parseWalKey(key) !== undefined || (ofBackup.has(key) && !key.endsWith('SHA256SUMS'));
  expect(await rotten(store, keys, folder.join('rotten'), { matches: isOfBackup })).toEqual([]);
  // As it was, it is restored.
  await restoreServer(store, folder.join('sound'), { keys });
  expect(await readFile(folder.join('sound', 'PG_VERSION'), 'utf8')).toMatch(/^\d+\n$/);
});
