import { describe, expect, test } from 'vitest';
import { partitionedSample } from '../../../test/support/toc-samples.ts';
import { describeEntry } from './find-entries.ts';
import { phasesOf, type RestorePhases } from './restore-phases.ts';

const { entries } = partitionedSample();
const CHOSEN = { tables: [], schemas: [], sections: [] };
const EXCLUDED = { tables: [], schemas: [], tableData: [] };

const rowsOf = ({ tables }: RestorePhases): readonly string[] => tables.map(describeEntry);
const definedBy = ({ before }: RestorePhases): readonly string[] =>
  before.filter(({ description }) => description === 'TABLE').map(describeEntry);

describe('of a dump by pg_dump 13, in which partitions are attached by their own definitions', () => {
  const OF_LOG = ['TABLE DATA a.rest_one', 'TABLE DATA b c.log_25'];
  const OTHERS = ['TABLE DATA a.kept', 'TABLE DATA a.log_of'];

  test('a partitioned table comes with the rows of its partitions, and theirs', () => {
    const phases = phasesOf({ entries }, { ...CHOSEN, tables: ['a.log'] });
    expect(rowsOf(phases)).toEqual(OF_LOG);
    expect(definedBy(phases)).toEqual(['TABLE a.log', 'TABLE a.rest "of it', 'TABLE a.rest_one', 'TABLE b c.log_25']);
  });

  test('so does one whose schema is chosen', () => {
    const phases = phasesOf({ entries }, { ...CHOSEN, schemas: ['a'] });
    expect(rowsOf(phases)).toEqual(['TABLE DATA a.kept', 'TABLE DATA a.log_of', ...OF_LOG]);
  });

  test('a partition comes without the others', () => {
    expect(rowsOf(phasesOf({ entries }, { ...CHOSEN, tables: ['log_25'] }))).toEqual(['TABLE DATA b c.log_25']);
  });

  test('a partitioned table that is left out takes its partitions along, and nothing else', () => {
    const phases = phasesOf({ entries }, { ...CHOSEN, excluding: { ...EXCLUDED, tables: ['a.log'] } });
    expect(rowsOf(phases)).toEqual(OTHERS);
    expect(definedBy(phases)).toEqual(['TABLE a.kept', 'TABLE a.log_of']);
  });

  test('one whose rows are left out has none in its partitions', () => {
    const phases = phasesOf({ entries }, { ...CHOSEN, excluding: { ...EXCLUDED, tableData: ['a.log'] } });
    expect(rowsOf(phases)).toEqual(OTHERS);
    expect(definedBy(phases)).toHaveLength(6);
  });
});
