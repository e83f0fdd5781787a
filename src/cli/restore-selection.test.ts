import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { selectionOf, selectionOptions } from './restore-selection.ts';

function given(...args: readonly string[]) {
  const command = new Command();
  for (const option of selectionOptions()) command.addOption(option);
  return selectionOf(command.parse(args, { from: 'user' }).opts());
}

describe('the part of a backup that is restored', () => {
  test('is all where no option says otherwise', () => {
    expect(given()).toEqual({});
  });

  test.each([
    [['--table', 'a', '--table', 'b'], { tables: ['a', 'b'] }],
    [
      ['--schema', 's', '--section', 'data', '--section', 'pre-data'],
      { schemas: ['s'], sections: ['pre-data', 'data'] },
    ],
    [['--exclude-table', 'a'], { excluding: { tables: ['a'], schemas: [], tableData: [] } }],
    [['--exclude-schema', 's'], { excluding: { tables: [], schemas: ['s'], tableData: [] } }],
    [['--exclude-table-data', 'a'], { excluding: { tables: [], schemas: [], tableData: ['a'] } }],
    [
      ['--rename', 's.a=b', '--rename', 's=r'],
      {
        renames: [
          { from: 's.a', to: 'b' },
          { from: 's', to: 'r' },
        ],
      },
    ],
  ])('is what %j says', (args, expected) => {
    expect(given(...args)).toMatchObject({ selection: expected });
  });

  test.each(['a', '=b', 'a=b=c'])('is not said by --rename %s', (value) => {
    expect(() => given('--rename', value)).toThrow(expect.objectContaining({ code: 'usage' }));
  });
});
