import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import type { Lease } from './held-lease.ts';
import type { BackupId } from './ids.ts';
import { IntentLog, type IntentPlan } from './intents.ts';

const id = '20261120T020000Z-pabcdef' as BackupId;
const lease: Lease = {
  name: 'shop',
  token: 'token-1',
  mode: 'conditional',
  lost: new AbortController().signal,
  confirm: async () => {},
  release: async () => {},
};
const plan: IntentPlan = {
  id,
  runId: '01K5',
  lease,
  source: 'main',
  database: 'shop',
  startedAt: new Date('2026-11-20T02:00:00Z'),
  keys: ['shop_1.sql.gz'],
};

async function listed(log: IntentLog): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const entry of log.list()) found.push('intent' in entry ? entry.intent : entry.error.code);
  return found;
}

describe('an intent', () => {
  test('names the plan, then each upload as it opens, until it is finished', async () => {
    const log = new IntentLog(new MemoryStore());
    const intent = await log.begin(plan);
    expect(await listed(log)).toEqual([
      {
        layout: 1,
        id,
        runId: '01K5',
        leaseName: 'shop',
        token: 'token-1',
        source: 'main',
        database: 'shop',
        startedAt: '2026-11-20T02:00:00.000Z',
        keys: ['shop_1.sql.gz'],
        prefixes: [],
        uploads: [],
      },
    ]);
    await intent.addUpload({ key: 'shop_1.sql.gz', uploadId: 'u1' });
    expect(await log.find(id)).toMatchObject({ uploads: [{ key: 'shop_1.sql.gz', uploadId: 'u1' }] });
    await intent.finish();
    expect(await listed(log)).toEqual([]);
  });

  test('keeps all of many uploads that open at once, and forgets those that ended', async () => {
    const log = new IntentLog(new MemoryStore());
    const prefix = `main/archive/${id}/`;
    const intent = await log.begin({ ...plan, prefixes: [prefix] });
    const uploads = Array.from({ length: 20 }, (_, index) => ({ key: `${prefix}${index}.zst`, uploadId: `u${index}` }));
    await Promise.all(uploads.map((upload) => intent.addUpload(upload)));
    expect((await log.find(id))?.uploads).toEqual(uploads);
    for (const upload of uploads) intent.uploadEnded(upload);
    await intent.addUpload({ key: 'shop_1.sql.gz', uploadId: 'last' });
    expect((await log.find(id))?.uploads).toEqual([{ key: 'shop_1.sql.gz', uploadId: 'last' }]);
  });

  test('that a sweep has removed lets no further upload begin, and does not come back', async () => {
    const log = new IntentLog(new MemoryStore());
    const intent = await log.begin(plan);
    await log.remove(id);
    const upload = intent.addUpload({ key: 'shop_1.sql.gz', uploadId: 'u1' });
    await expect(upload).rejects.toMatchObject({ code: 'lease-lost' });
    expect(await listed(log)).toEqual([]);
  });

  test('is not begun for a key that is taken, since a sweep could not tell whose object it is', async () => {
    const store = new MemoryStore();
    await store.putSmall('shop_1.sql.gz', Buffer.from('somebody’s'));
    await expect(new IntentLog(store).begin(plan)).rejects.toMatchObject({ code: 'object-exists' });
    expect(await listed(new IntentLog(store))).toEqual([]);
  });

  test('of a folder in which something lies is refused: files in it are put without looking', async () => {
    const store = new MemoryStore();
    const prefix = `main/archive/${id}/`;
    await store.putSmall(`${prefix}toc.dat`, new Uint8Array(1));
    const begun = new IntentLog(store).begin({ ...plan, keys: [], prefixes: [prefix] });
    await expect(begun).rejects.toMatchObject({ code: 'object-exists', message: expect.stringContaining('toc.dat') });
    expect(await listed(new IntentLog(store))).toEqual([]);
  });

  test.each<Partial<IntentPlan>>([
    { keys: ['.pgark/repository.json'] },
    { keys: ['.pgark/companions/20261120T020000Z-pzzzzzz.json'] },
    { keys: [''] },
    { prefixes: [''] },
    { prefixes: ['main/'] },
    { prefixes: [`main/archive/${id}`] },
    { prefixes: [`.pgark/${id}/`] },
  ])('cannot plan what a backup may not own: %j', async (change) => {
    await expect(new IntentLog(new MemoryStore()).begin({ ...plan, ...change })).rejects.toThrow();
  });

  test('that is damaged, or lies under another’s name, is listed with its error and hides no other', async () => {
    const store = new MemoryStore();
    const log = new IntentLog(store);
    await log.begin(plan);
    const text = Buffer.from(store.objects.get(`.pgark/intents/${id}.json`)?.bytes ?? []).toString();
    await store.putSmall('.pgark/intents/20261120T020000Z-pzzzzzz.json', Buffer.from(text));
    await store.putSmall('.pgark/intents/0.json', Buffer.from(text.replace('shop_1.sql.gz', '.pgark/repository.json')));
    await store.putSmall('.pgark/intents/1.json', Buffer.from('{'));
    expect(await listed(log)).toEqual([
      'repository-damaged',
      'repository-damaged',
      expect.objectContaining({ id }),
      'repository-damaged',
    ]);
  });
});
