import { Option } from 'commander';
import { PgarkError } from '../common/errors.ts';
import type { NewName, RestoreRequest, SectionName } from '../operations/restore.ts';

const SECTIONS = ['pre-data', 'data', 'post-data'] as const satisfies readonly SectionName[];

/** Options that say which part of a backup is restored, and as what. */
export function selectionOptions(): readonly Option[] {
  const repeatable = (flags: string, what: string): Option =>
    new Option(flags, `${what} (repeatable; format directory)`);
  return [
    repeatable(
      '--table <name>',
      'only this table, with what belongs to it; tables that it needs come without rows, foreign keys to others not at all',
    ).argParser(several),
    repeatable('--schema <name>', 'only what lies in this schema, in the same way; no large objects').argParser(
      several,
    ),
    repeatable('--section <name>', 'only pre-data, data or post-data').argParser(sections),
    repeatable('--exclude-table <name>', 'without this table, and what cannot be without it').argParser(several),
    repeatable('--exclude-schema <name>', 'without this schema, and what cannot be without it').argParser(several),
    repeatable('--exclude-table-data <name>', 'without the rows of this table').argParser(several),
    repeatable('--rename <old=new>', 'another name for a table (SCHEMA.TABLE=NEW) or a schema').argParser(newNames),
  ];
}

/** What they were given. */
export function selectionOf(options: Readonly<Record<string, unknown>>): Pick<RestoreRequest, 'selection'> {
  const names = (option: string): readonly string[] => (options[option] ?? []) as readonly string[];
  const named = names('section');
  const selection = {
    tables: names('table'),
    schemas: names('schema'),
    sections: SECTIONS.filter((name) => named.includes(name)),
    excluding: {
      tables: names('excludeTable'),
      schemas: names('excludeSchema'),
      tableData: names('excludeTableData'),
    },
    renames: (options.rename ?? []) as readonly NewName[],
  };
  const { excluding, ...lists } = selection;
  const isWhole = [...Object.values(lists), ...Object.values(excluding)].every((list) => list.length === 0);
  return isWhole ? {} : { selection };
}

export function several(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function sections(value: string, before: readonly string[] = []): readonly string[] {
  if (SECTIONS.some((name) => name === value)) return [...before, value];
  throw new PgarkError('usage', `there is no section ${value}`, { hint: `sections are ${SECTIONS.join(', ')}` });
}

/** `shop.orders=orders_old`. */
function newNames(value: string, before: readonly NewName[] = []): readonly NewName[] {
  const [from = '', to, another] = value.split('=');
  if (from !== '' && to !== undefined && another === undefined) return [...before, { from, to }];
  throw new PgarkError('usage', `--rename ${value} does not say what is to be called how`, {
    hint: 'write --rename OLD=NEW, where OLD is SCHEMA.TABLE or a schema',
  });
}
