import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { environmentNames } from './environment-names.ts';
import { configJsonSchemaText } from './json-schema.ts';

/** Run vitest with -u to write the files again after a change of the schema or of the environment names. */
const DOCUMENT = '../../docs/configuration.md';
const SCHEMA = '../../config.schema.json';

interface Schema {
  readonly description?: string;
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly oneOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function environmentTables(): string {
  const sections = [...new Set(environmentNames.map(({ section }) => section))];
  return sections
    .map((section) => {
      const rows = environmentNames.filter((row) => row.section === section);
      const cells = rows.map(({ name, meaning, standard }) => [`\`${name}\``, meaning, standard ?? '']);
      return `### ${section}\n\n${table(['Name', 'Meaning', 'Default'], cells)}`;
    })
    .join('\n\n');
}

/** Rows of every key below a schema: `NAME` stands for a name of the user's, `[]` for each entry of a list. */
function keyRows(schema: Schema, path: string): string[][] {
  const variants = schema.oneOf ?? schema.anyOf?.filter(({ properties }) => properties !== undefined) ?? [];
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, inner]) => {
    // The kind of a variant stands in the paths of its keys.
    if (key === 'type' && inner.const !== undefined) return [];
    const at = path === '' ? key : `${path}.${key}`;
    const required = schema.required?.includes(key) ? 'yes' : '';
    const values = inner.enum?.join(', ') ?? '';
    const meaning = inner.description ?? (values === '' ? '' : `${values}.`);
    const row = [`\`${at}\``, required, meaning];
    return [...(meaning === '' && isMapping(inner) ? [] : [row]), ...keyRows(inner, at)];
  });
  const named =
    typeof schema.additionalProperties === 'object' ? keyRows(schema.additionalProperties, `${path}.NAME`) : [];
  const listed = schema.items === undefined ? [] : keyRows(schema.items, `${path}[]`);
  const varied = variants.flatMap((variant) => {
    const kind = variant.properties?.['type']?.const;
    return keyRows(variant, kind === undefined ? path : `${path} (${JSON.stringify(kind).slice(1, -1)})`);
  });
  return [...own, ...named, ...listed, ...varied];
}

function isMapping(schema: Schema): boolean {
  return schema.properties !== undefined || typeof schema.additionalProperties === 'object';
}

function replaceBetween(text: string, name: string, content: string): string {
  const [begin, end] = [`<!-- ${name}: made by src/config/reference.test.ts -->`, `<!-- end of ${name} -->`];
  const start = text.indexOf(begin);
  const stop = text.indexOf(end);
  if (start < 0 || stop < start) throw new Error(`${DOCUMENT} has no section ${name}`);
  return `${text.slice(0, start)}${begin}\n\n${content}\n\n${text.slice(stop)}`;
}

describe('what is published about the configuration', () => {
  test('config.schema.json is that of the code', async () => {
    await expect(configJsonSchemaText()).toMatchFileSnapshot(SCHEMA);
  });

  test('the tables of docs/configuration.md are those of the code', async () => {
    const text = await readFile(new URL(DOCUMENT, import.meta.url), 'utf8');
    const keys = keyRows(JSON.parse(configJsonSchemaText()) as Schema, '');
    const withNames = replaceBetween(text, 'environment names', environmentTables());
    const current = replaceBetween(withNames, 'file keys', table(['Key', 'Required', 'Meaning'], keys));
    await expect(current).toMatchFileSnapshot(DOCUMENT);
  });

  test('every key of the file says what it means', () => {
    const silent = keyRows(JSON.parse(configJsonSchemaText()) as Schema, '').filter((row) => row[2] === '');
    expect(silent).toEqual([]);
  });
});
