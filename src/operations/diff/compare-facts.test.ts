import { expect, test } from 'vitest';
import { manifestOf } from '../../../test/support/repository-place.ts';
import { systemRandom } from '../../common/random.ts';
import { makeBackupId } from '../../repository/ids.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { compareFacts, isOfContent } from './compare-facts.ts';

const plain = manifestOf(makeBackupId(new Date(), 'p', systemRandom), 'shop', ['shop.sql']);

function withProperties(changes: Partial<NonNullable<Manifest['database']['properties']>>): Manifest {
  const properties = { settings: [], connectionLimit: -1, isTemplate: false, tablespace: 'pg_default', leftOut: [] };
  return { ...plain, database: { ...plain.database, properties: { ...properties, ...changes } } };
}

test('settings are told by name alone, those of roles apart', () => {
  const before = withProperties({
    settings: [
      { name: 'work_mem', value: '1MB' },
      { name: 'app.secret', value: 'hidden-before' },
    ],
  });
  const after = withProperties({
    settings: [
      { name: 'app.secret', value: 'hidden-after' },
      { role: 'app', name: 'work_mem', value: '1MB' },
    ],
  });
  const difference = compareFacts(before, after);
  expect(difference).toEqual({
    facts: [],
    settings: [
      { role: 'app', name: 'work_mem', change: 'added' },
      { role: undefined, name: 'app.secret', change: 'changed' },
      { role: undefined, name: 'work_mem', change: 'removed' },
    ],
    untold: [],
  });
  expect(JSON.stringify(difference)).not.toContain('hidden');
});

test('what an encrypted backup does not tell is no difference, and is said', () => {
  const open = withProperties({ comment: 'a shop', settings: [{ name: 'work_mem', value: '1MB' }] });
  const sealed = withProperties({ leftOut: ['settings', 'comment'] });
  expect(compareFacts(open, sealed)).toEqual({ facts: [], settings: [], untold: ['settings', 'comment'] });
});

test('what the manifest of an earlier version does not tell is no difference, and is said', () => {
  const now = withProperties({ connectionLimit: 5, comment: 'a shop', grants: [] });
  const untold = ['settings', 'comment', 'connection_limit', 'is_template', 'tablespace', 'grants'];
  expect(compareFacts(plain, now)).toEqual({ facts: [], settings: [], untold });
  expect(compareFacts(now, plain)).toEqual({ facts: [], settings: [], untold });
  expect(compareFacts(plain, plain)).toEqual({ facts: [], settings: [], untold });
});

test('that a database has become a template is a difference of the content', () => {
  const { facts } = compareFacts(withProperties({}), withProperties({ isTemplate: true }));
  expect(facts).toEqual([{ name: 'is_template', before: 'false', after: 'true' }]);
  expect(facts.every(isOfContent)).toBe(true);
});

test('the size and the server are no difference of the content; encoding and rights are', () => {
  const other: Manifest = {
    ...plain,
    database: { ...plain.database, bytes: plain.database.bytes + 1, encoding: 'LATIN1' },
    server: { ...plain.server, version: 'another' },
  };
  const { facts } = compareFacts(plain, other);
  expect(facts.map((fact) => [fact.name, isOfContent(fact)])).toEqual([
    ['server_version', false],
    ['encoding', true],
    ['database_bytes', false],
  ]);
});
