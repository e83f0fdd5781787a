import { afterEach, describe, expect, test } from 'vitest';
import { globalsRecord, makeGlobalsId } from '../../test/support/globals.ts';
import { oneBlock, type Place, placeNames, places, startedAt } from '../../test/support/repository-place.ts';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import { commitGlobals, globalsLeaseName, isGlobalsData, isGlobalsId, listGlobals, removeGlobals } from './globals.ts';
import type { BackupId } from './ids.ts';
import { keys } from './keys.ts';
import { ID_METADATA } from './owned-objects.ts';

const opened: Place[] = [];
afterEach(() => {
  for (const place of opened.splice(0)) place.end();
});

function openPlace(name: keyof typeof places = 'an object store'): Place {
  const place = places[name]();
  opened.push(place);
  return place;
}

/** A run that stores globals, up to the step said, and is then gone. */
async function store(place: Place, upTo: 'intent' | 'data' | 'record' | 'end', source = 'main'): Promise<BackupId> {
  const id = makeGlobalsId();
  const lease = await place.leasesOf('runner').acquire(globalsLeaseName(source));
  const key = `${keys.globals(source, id)}.gz`;
  const intent = await place.intents.begin({ id, runId: 'run', lease, source, startedAt, keys: [key] });
  if (upTo === 'intent') return id;
  await place.store.putStream(key, oneBlock('roles'), { metadata: { [ID_METADATA]: id } });
  if (upTo === 'data') return id;
  await commitGlobals(place.store, globalsRecord(id, { source }));
  if (upTo === 'record') return id;
  await intent.finish();
  await lease.release();
  return id;
}

async function idsOf(place: Place): Promise<string[]> {
  const { records } = await listGlobals(place.store);
  return records.map(({ id }) => id);
}

describe('names around globals', () => {
  test('their ids and leases are nobody else’s', () => {
    expect(isGlobalsId(makeGlobalsId())).toBe(true);
    expect(isGlobalsId('20261120T020000Z-pgggggg')).toBe(false);
    for (const source of ['main', 'a/b', '../x']) expect(globalsLeaseName(source)).not.toContain('/');
  });

  test('their data is told by a record, whatever the source is called and however it is sealed', () => {
    for (const source of ['main', 'a/b', '.x%', 'ü ö']) {
      const id = makeGlobalsId();
      const records = new Set([keys.globalsRecord(source, id)]);
      for (const ending of ['', '.gz', '.zst.age', '.gz.enc']) {
        expect(isGlobalsData(`${keys.globals(source, id)}${ending}`, records)).toBe(true);
      }
      for (const other of ['.gz.age.old', '/x', '.GZ']) {
        expect(isGlobalsData(`${keys.globals(source, id)}${other}`, records)).toBe(false);
      }
      expect(isGlobalsData(keys.globals(source, makeGlobalsId()), records)).toBe(false);
      expect(isGlobalsData(keys.globals('other', id), records)).toBe(false);
    }
  });
});

describe('globals in the repository', () => {
  test('are listed by source, oldest first by the store’s time; what cannot be read is named', async () => {
    const place = openPlace();
    const [late, early, other] = [makeGlobalsId(), makeGlobalsId(), makeGlobalsId()];
    await commitGlobals(place.store, globalsRecord(late, { storeTime: new Date('2026-11-20T03:00:00Z') }));
    await commitGlobals(place.store, globalsRecord(early));
    await commitGlobals(place.store, globalsRecord(other, { source: 'main-eu' }));
    const bad = keys.globalsRecord('main', makeGlobalsId());
    await place.store.putSmall(bad, Buffer.from('{'));
    const found = await listGlobals(place.store, { source: 'main' });
    expect(found.records.map(({ id }) => id)).toEqual([early, late]);
    expect(found.damaged).toMatchObject([{ key: bad, error: { code: 'repository-damaged' } }]);
    expect(await idsOf(place)).toHaveLength(3);
  });

  test('are no foreign objects, while a file beside them that has no record is one', async () => {
    const place = openPlace();
    await store(place, 'end');
    await place.store.putSmall('main/globals/old.sql.gz', Buffer.from('somebody’s'));
    const foreign: string[] = [];
    for await (const { key } of place.repository.unclaimedObjects([])) foreign.push(key);
    expect(foreign).toEqual(['main/globals/old.sql.gz']);
  });

  test('never replace others of the same id', async () => {
    const place = openPlace();
    const id = await store(place, 'end');
    await expect(commitGlobals(place.store, { ...globalsRecord(id), runId: 'another' })).rejects.toMatchObject({
      code: 'store-condition-failed',
    });
  });
});

describe.each(placeNames)('a sweep of %s', (name) => {
  test('removes what dead runs left of globals, and keeps those whose record is there', async () => {
    const place = openPlace(name);
    const whole = await store(place, 'end');
    const begun = await store(place, 'intent', 'one');
    const orphan = await store(place, 'data', 'two');
    const committed = await store(place, 'record', 'three');
    expect(await place.sweep()).toMatchObject({
      orphans: [],
      busy: expect.arrayContaining([begun, orphan, committed]),
    });
    place.die();
    const report = await place.sweep();
    expect(report).toMatchObject({ committed: [committed], failures: [], foreign: [], objectsDeleted: 1 });
    expect(report.orphans.toSorted()).toEqual([begun, orphan].toSorted());
    expect(await idsOf(place)).toEqual([whole, committed].toSorted());
    expect((await place.keys()).toSorted()).toEqual(
      [
        keys.globalsRecord('main', whole),
        keys.globalsRecord('three', committed),
        `main/globals/${whole}.sql.gz`,
        `three/globals/${committed}.sql.gz`,
      ].toSorted(),
    );
  });

  test('finishes a removal that was cut off anywhere, and the other globals stay', async () => {
    for (let cut = 1; ; cut++) {
      const place = openPlace(name);
      const kept = await store(place, 'end');
      const gone = await store(place, 'end');
      const before = place.store.calls;
      place.store.faults = {
        before: ({ number }) => {
          if (number === before + cut) throw new PgarkError('store-unreachable', 'cut off');
        },
      };
      const failure: unknown = await removeGlobals(place.store, globalsRecord(gone)).catch((error: unknown) => error);
      place.store.faults = {};
      await place.sweep();
      const ids = await idsOf(place);
      expect(ids).toContain(kept);
      const data = (await place.keys()).filter((key) => key.includes(gone));
      expect(data.length).toBe(ids.includes(gone) ? 2 : 0);
      if (!isPgarkError(failure)) return;
    }
  });

  test('deletes nothing but the globals’ own, whatever the copy of their record says', async () => {
    const place = openPlace(name);
    const id = makeGlobalsId();
    await place.store.putSmall('shop.sql.gz', Buffer.from('x'));
    const record = globalsRecord(id);
    const forged = { ...record, object: { ...record.object, key: 'shop.sql.gz' } };
    await place.store.putSmall(keys.deleted(id), Buffer.from(JSON.stringify(forged)));
    expect((await place.sweep()).failures).toMatchObject([
      { key: keys.deleted(id), error: { code: 'repository-damaged' } },
    ]);
    expect(await place.keys()).toContain('shop.sql.gz');
  });
});
