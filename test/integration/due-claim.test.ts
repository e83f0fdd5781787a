import { describe, expect, test } from 'vitest';
import { silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import { systemRandom } from '../../src/common/random.ts';
import { backup } from '../../src/operations/backup.ts';
import { operationContext } from '../../src/operations/context.ts';
import { keys } from '../../src/repository/keys.ts';
import { Repository } from '../../src/repository/repository.ts';
import { claimDue } from '../../src/service/claims.ts';
import { DueClaim } from '../../src/service/due-claim.ts';
import type { Stores } from '../../src/service/stores.ts';
import { postgresFacts } from '../support/facts.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { createDatabase } from '../support/postgres.ts';
import { bytesOf } from '../support/streams.ts';

const DUE = new Date('2026-11-20T02:00:00Z');

/** A storage with a backup, whose next due time another host has taken; and what this host makes of that. */
async function takenElsewhere(change: (manifest: string) => string): Promise<{
  readonly taken: unknown;
  readonly isOwn: boolean;
  readonly warnings: readonly string[];
}> {
  await using database = await createDatabase({ name: 'claimed' });
  const { password, ...server } = postgresFacts();
  const connection = {
    ...server,
    password: new Secret(password),
    database: database.name,
    sslMode: 'disable' as const,
  };
  const store = new MemoryStore();
  const warnings: string[] = [];
  const logger = { ...silentLogger, warning: (event: string) => void warnings.push(event) };
  await backup(
    {
      source: 'shop',
      connection,
      destinations: [{ name: 'store', store, needsDelete: true }],
      seal: { compression: { algorithm: 'none', level: 0 } },
      nameTemplate: '{id}',
      excludeTableData: [],
      leaseTermMs: 60_000,
      readBack: false,
      dryRun: false,
    },
    operationContext(),
  );
  const context = operationContext({ logger });
  for await (const { key } of new Repository(store, context).manifestKeys({}, {})) {
    const { body, info } = await store.get(key);
    const changed = change((await bytesOf(body)).toString());
    await store.putSmall(key, Buffer.from(changed), { condition: { ifMatch: info.etag } });
  }
  const request = { source: 'shop', job: 'nightly', dueAt: DUE, spacingMs: 60_000, resumes: false, pid: 7, now: DUE };
  await claimDue(store, { ...request, host: 'other', random: systemRandom });
  const stores = { open: () => Promise.resolve(store) } as unknown as Stores;
  const storage = {
    name: 'store',
    type: 'file',
    path: '/',
    retry: { retriesMax: 0, delayMs: 1, delayMsMax: 1 },
  } as const;
  const of = {
    id: 'shop/nightly',
    source: 'shop',
    job: 'nightly',
    schedule: undefined,
    storages: [storage],
    connection,
  };
  const claim = new DueClaim(
    of,
    { id: 'shop/nightly', dueAt: DUE, nextFireAt: undefined, resumes: false },
    { stores, context },
  );
  const taken = await claim.take();
  const { body } = await store.get(keys.schedule('shop', 'nightly'));
  expect(JSON.parse((await bytesOf(body)).toString())).toMatchObject({ host: 'other' });
  return { taken, isOwn: claim.isOwn, warnings };
}

describe('a due time that another host has taken', () => {
  test('is left to it where it backs up the same server', async () => {
    const { taken, isOwn, warnings } = await takenElsewhere((manifest) => manifest);
    expect(isOwn).toBe(false);
    expect(taken).toMatchObject({ kind: 'taken', host: 'other' });
    expect(warnings).toEqual([]);
  });

  test('is carried out here too where backups of another server have the same name', async () => {
    const identifier = /("systemIdentifier": ?)"\d+"/;
    const { taken, isOwn, warnings } = await takenElsewhere((manifest) => {
      expect(manifest).toMatch(identifier);
      return manifest.replace(identifier, '$1"7300000000000000001"');
    });
    expect(taken).toBeUndefined();
    // The end of the other one's run is waited for.
    expect(isOwn).toBe(true);
    expect(warnings).toEqual(['source.other_server']);
  });
});
