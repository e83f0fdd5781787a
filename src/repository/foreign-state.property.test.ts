import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { damagedBytes, damagedJson, refusedOr } from '../../test/support/damage.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import { silentLogger } from '../common/log.ts';
import { isPgarkError } from '../common/errors.ts';
import { readGlobals } from './globals.ts';
import { makeBackupId } from './ids.ts';
import { type FoundIntent, IntentLog } from './intents.ts';
import { keys, parseManifestKey, parseRunKey, parseRunLogKey, STATE_PREFIX } from './keys.ts';
import { Leases } from './leases.ts';
import { parseManifest, serialiseManifest } from './manifest.ts';
import { Repository } from './repository.ts';
import { readWalRecord } from './wal-record.ts';
import { parseWalFileName, parseWalKey, walKey } from './wal-keys.ts';

const TIME = '2026-11-20T02:00:00.000Z';
const id = makeBackupId(new Date(TIME), 'p', systemRandom);
const manifest = {
  ...manifestOf(id, 'shop', ['shop.sql.gz']),
  parents: [makeBackupId(new Date(TIME), 'f', systemRandom)],
  tablespaces: [{ oid: '16400', location: '/space' }],
  walNeeded: { from: '000000010000000000000002', to: '000000010000000000000003', segmentBytes: 16_777_216 },
  encryption: { scheme: 'age' as const, keyFingerprints: ['age1x'] },
};
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

async function storeWith(key: string, text: string | Uint8Array): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.putSmall(key, typeof text === 'string' ? encode(text) : text);
  return store;
}

describe('what somebody else may have written into the storage is read, or refused with a sentence', () => {
  test('a manifest, of which every value that is taken is of its kind', async () => {
    await fc.assert(
      fc.asyncProperty(damagedJson(manifest), async (text) => {
        const read = await refusedOr(() => parseManifest(encode(text), 'key'));
        // What was read is written as it would be read.
        if (read !== undefined) expect(parseManifest(serialiseManifest(read), 'key')).toEqual(read);
      }),
    );
    await fc.assert(
      fc.asyncProperty(damagedBytes(serialiseManifest(manifest)), async (bytes) => {
        await refusedOr(() => parseManifest(bytes, 'key'));
      }),
    );
  });

  test('a manifest that is damaged hides no other, and is told of', async () => {
    await fc.assert(
      fc.asyncProperty(damagedJson(manifest), async (text) => {
        const key = keys.manifest('main', 'shop', id);
        const store = await storeWith(key, text);
        const other = manifestOf(makeBackupId(new Date(TIME), 'p', systemRandom), 'shop', ['other.sql.gz']);
        const repository = new Repository(store, { clock: systemClock, random: systemRandom });
        await repository.commit(other);
        const found = await refusedOr(() => repository.backups());
        if (found === undefined) return;
        expect(found.manifests.map((each) => each.id)).toContain(other.id);
        expect(found.manifests.length + found.damaged.length).toBe(2);
      }),
      // No key is made of an empty name.
      { examples: [[JSON.stringify({ ...manifest, database: { ...manifest.database, name: '' } })]] },
    );
  });

  test('an intent, which never leads a sweep to another backup’s data or to the state', async () => {
    const folder = keys.archivePrefix('main', id);
    const intent = {
      layout: 1,
      id,
      runId: 'run',
      leaseName: 'main/shop',
      token: 'token',
      source: 'main',
      database: 'shop',
      startedAt: TIME,
      keys: ['shop.sql.gz'],
      prefixes: [folder],
      uploads: [{ key: 'shop.sql.gz', uploadId: 'u' }],
    };
    await fc.assert(
      fc.asyncProperty(damagedJson(intent), async (text) => {
        const found = await refusedOr(async () => {
          const store = await storeWith(keys.intent(id), text);
          const all: FoundIntent[] = [];
          for await (const each of new IntentLog(store).list()) all.push(each);
          return all;
        });
        for (const each of found ?? []) {
          if ('error' in each) continue;
          const { prefixes } = each.intent;
          for (const prefix of prefixes) expect(prefix.endsWith(`/${id}/`)).toBe(true);
          const all = [...each.intent.keys, ...prefixes];
          expect(all.filter((key) => key.startsWith(STATE_PREFIX) && key !== keys.companion(id))).toEqual([]);
        }
      }),
    );
  });

  test('a lease, which is refused or waited for', async () => {
    const lease = {
      layout: 1,
      name: 'prune',
      token: 't',
      holder: { host: 'h', pid: 1, runId: 'r', command: 'pgark prune' },
      since: TIME,
      until: TIME,
      renewals: 0,
      released: false,
    };
    await fc.assert(
      fc.asyncProperty(damagedJson(lease), async (text) => {
        const store = await storeWith(keys.lease('prune'), text);
        const leases = new Leases(store, {
          clock: systemClock,
          random: systemRandom,
          logger: silentLogger,
          termMs: 60_000,
          timers: { after: () => () => {} },
          holder: lease.holder,
        });
        const acquired = await refusedOr(() => leases.acquire('prune'));
        await acquired?.release();
      }),
    );
  });

  test('records of globals and of WAL', async () => {
    const folder = { source: 'main', systemIdentifier: '7712539176122962914' };
    const record = {
      layout: 1,
      source: 'main',
      systemIdentifier: folder.systemIdentifier,
      segmentBytes: 1_048_576,
      createdAt: TIME,
      head: {
        timeline: 1,
        lsn: '0/3000028',
        serverTime: '2026-11-20T02:00:00.000000Z',
        writtenAt: TIME,
        slot: 's',
        host: 'h',
        pid: 1,
      },
      pgarkVersion: '0.1.0',
    };
    await fc.assert(
      fc.asyncProperty(damagedJson(record), async (text) => {
        const key = keys.walRecord(folder.source, folder.systemIdentifier);
        const store = await storeWith(key, text);
        await refusedOr(() => readWalRecord(store, folder));
        await refusedOr(() => readGlobals(store, key));
      }),
    );
  });

  test('a repository’s own mark', async () => {
    const mark = { layout: 1, id: '0'.repeat(32), createdAt: TIME };
    await fc.assert(
      fc.asyncProperty(damagedJson(mark), async (text) => {
        const store = await storeWith(keys.repository, text);
        const repository = new Repository(store, { clock: systemClock, random: systemRandom });
        await refusedOr(() => repository.checkLayout());
      }),
    );
  });
});

describe('keys that somebody else may have given to objects', () => {
  const part = fc.oneof(
    fc.constantFrom('.pgark', 'backups', 'main', 'shop', 'wal', '..', '.', '%2E', '%', '7712539176122962914'),
    fc.constantFrom('00000001', '000000010000000000000002', '00000002.history', '.zst', '.age', '.delta', `${id}.json`),
    fc.constantFrom('000000010000000000000002.000000-0000FF.delta.zst', 'compacted-x.json.gz'),
    fc.string({ maxLength: 8 }),
    fc.string({ unit: 'binary', maxLength: 4 }),
  );
  const anyKey = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('/'));

  test('are those that pgark gives, or nobody’s', () => {
    fc.assert(
      fc.property(anyKey, (key) => {
        const wal = parseWalKey(key);
        if (wal !== undefined) {
          const endings = wal.kind === 'history' ? '' : `.zst${wal.encryption ?? ''}`;
          const { source, systemIdentifier } = wal;
          // The source is as the key spells it.
          const written = walKey({ source: 'S', systemIdentifier }, wal, endings);
          expect(written.slice(1)).toBe(key.slice(source.length));
        }
        const parsed = parseManifestKey(key);
        if (parsed !== undefined)
          expect(key).toBe(`${keys.manifestsOf(parsed.source, parsed.database)}${parsed.id}.json`);
        for (const parse of [parseRunKey, parseRunLogKey, parseWalFileName]) parse(key);
      }),
      { numRuns: 2_000 },
    );
  });

  test('of deltas say an offset before its end, and nothing else is a delta', () => {
    const hex = fc.nat(2 ** 31 - 1).map((value) => value.toString(16).toUpperCase());
    const digits = fc.oneof(
      hex,
      hex.map((text) => text.padStart(6, '0')),
      fc.string({ maxLength: 10 }),
    );
    fc.assert(
      fc.property(digits, digits, (from, to) => {
        const name = `000000010000000000000002.${from}-${to}.delta`;
        const wal = parseWalKey(`main/wal/1/00000001/${name}.zst`);
        if (wal?.kind !== 'delta') return;
        expect(wal.from).toBeLessThan(wal.to);
        expect(wal.from.toString(16).toUpperCase().padStart(from.length, '0')).toBe(from);
      }),
    );
  });
});

test('an error of a damaged object is one of pgark’s that names the object', async () => {
  const key = keys.manifest('main', 'shop', id);
  const error = await Promise.resolve()
    .then(() => parseManifest(encode('{'), key))
    .catch((thrown: unknown) => thrown);
  expect(isPgarkError(error, 'repository-damaged') && error.message.includes(key)).toBe(true);
});
