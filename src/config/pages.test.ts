import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type MarkdownPage, pageNames, readPage } from '../../test/support/markdown.ts';
import { environmentNames } from './environment-names.ts';
import { foreignVariables, isForeignName } from './foreign-variables.ts';
import { configJsonSchemaText } from './json-schema.ts';

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly oneOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
}

const schema = JSON.parse(configJsonSchemaText()) as Schema;
const pages: MarkdownPage[] = [];
// The records of decisions tell of what was, and what was rejected, too.
const current = (await pageNames()).filter((name) => !/^(?:docs\/adr|test)\//.test(name));
for (const name of current) pages.push(await readPage(name));

/** The schema, and all that are in it. */
function everySchema(of: Schema): Schema[] {
  return [
    of,
    ...variantsOf(of).flatMap((each) =>
      Object.values(each.properties ?? {})
        .concat(namedOf(each))
        .flatMap(everySchema),
    ),
  ];
}

function variantsOf(of: Schema): Schema[] {
  return [of, ...(of.oneOf ?? []), ...(of.anyOf ?? []), ...(of.items === undefined ? [] : variantsOf(of.items))];
}

function namedOf({ additionalProperties }: Schema): Schema[] {
  return typeof additionalProperties === 'object' ? [additionalProperties] : [];
}

/** Where a key leads to from any of these places. */
function step(from: readonly Schema[], key: string): Schema[] {
  return from.flatMap(variantsOf).flatMap((each) => [...[each.properties?.[key] ?? []].flat(), ...namedOf(each)]);
}

const everywhere = everySchema(schema);

function unknownKeys(value: unknown, from: readonly Schema[], at: string): string[] {
  if (Array.isArray(value)) return value.flatMap((each) => unknownKeys(each, from, at));
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => {
    const next = step(from, key);
    return next.length === 0 ? [`${at}${key}`] : unknownKeys(inner, next, `${at}${key}.`);
  });
}

describe('every page', () => {
  test('names keys of the configuration file that there are', () => {
    const wrong: string[] = [];
    let spans = 0;
    for (const page of pages) {
      for (const [index, text] of page.prose.entries()) {
        for (const [, span = ''] of text.matchAll(/`([a-z_]+(?:\.[a-z_A-Z]+)+)(?:: [^`]+)?`/g)) {
          const [first = '', ...rest] = span.split('.');
          // Where its first word is no key, it is no path of the file: a file's name, a setting of PostgreSQL.
          if (!everywhere.some(({ properties }) => properties?.[first] !== undefined)) continue;
          if (NO_KEYS.has(span)) continue;
          spans += 1;
          const end = rest.reduce(
            step,
            everywhere.flatMap(({ properties }) => properties?.[first] ?? []),
          );
          if (end.length === 0) wrong.push(`${page.name}:${index + 1}: ${span}`);
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(spans).toBeGreaterThan(20);
  });

  test('shows pieces of configuration files with keys that there are', () => {
    const wrong: string[] = [];
    for (const page of pages) {
      for (const { language, words, text, line } of page.blocks) {
        if (language !== 'yaml' || words.includes('other')) continue;
        const value: unknown = parse(text);
        const isWhole = typeof value === 'object' && value !== null && 'version' in value;
        const unknown = unknownKeys(value, isWhole ? [schema] : everywhere, '');
        wrong.push(...unknown.map((key) => `${page.name}:${line}: ${key}`));
      }
    }
    expect(wrong).toEqual([]);
  });

  test('names pieces of configuration files in its text with keys that there are', () => {
    const wrong: string[] = [];
    let found = 0;
    for (const page of pages) {
      // Those of the chart, and of what lies in a storage, are others.
      if (['docs/kubernetes.md', 'docs/format.md'].includes(page.name)) continue;
      for (const [index, text] of page.prose.entries()) {
        for (const [, span = ''] of text.matchAll(/`([a-z_]+: [^`]+)`/g)) {
          found += 1;
          wrong.push(...unknownKeys(parse(span), everywhere, '').map((key) => `${page.name}:${index + 1}: ${key}`));
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(found).toBeGreaterThan(10);
  });

  test('calls variables of other images what pgark doctor calls them', () => {
    const page = pages.find(({ name }) => name === 'docs/migration.md');
    const own = new Set(environmentNames.map(({ name }) => name));
    const wrong: string[] = [];
    let found = 0;
    for (const line of page?.prose ?? []) {
      const [, same = '', renamed = ''] = /^\| postgres-\S+ [^|]*\| ([^|]*) \| ([^|]*) \|$/.exec(line) ?? [];
      for (const [, name = ''] of same.matchAll(/`(\w+)`/g)) if (!own.has(name)) wrong.push(name);
      for (const [, theirs = '', ours = ''] of renamed.matchAll(/`(\w+)` → `(\w+)/g)) {
        found += 1;
        if (foreignVariables({ [theirs]: 'x' })[0]?.own !== ours) wrong.push(`${theirs} → ${ours}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(found).toBeGreaterThan(12);
  });

  test('names variables that pgark reads, or that are known to be others’', () => {
    const own = new Set(environmentNames.flatMap(({ name }) => [name, `${name}_FILE`]));
    const wrong: string[] = [];
    let found = 0;
    for (const page of pages) {
      for (const name of variablesOf(page)) {
        if (isForeignName(name) || OTHERS.test(name)) continue;
        found += 1;
        if (!own.has(name)) wrong.push(`${page.name}: ${name}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(found).toBeGreaterThan(100);
  });
});

/** What looks like a key and is none. */
const NO_KEYS = new Set(['database.properties', 'traces.failed']);

/** Variables of other programs, of hooks, of the image's build and of the tests. */
const OTHERS = new RegExp(
  `^(?:${[
    'PGOPTIONS|PGAPPNAME|PGDATA|ON_ERROR_STOP|BASE_BACKUP|MALLOC_ARENA_MAX|NO_COLOR|NAME_FILE',
    'AWS_(?:PROFILE|ROLE_ARN|WEB_IDENTITY_TOKEN_FILE|CA_BUNDLE)|NODE_\\w+|UV_THREADPOOL_SIZE|RCLONE_(?!S3_|CONFIG$)\\w*',
    'OTEL_(?:RESOURCE_ATTRIBUTES|EXPORTER_OTLP_COMPRESSION)',
    'PGARK_(?:HOOK|SOURCE|JOB|STORAGES|DATABASES?|RESULT|ERROR(?:_CODE)?|RUN_ID|BACKUP_ID|STORED_BYTES|TARGET(?:_\\w+)?|SOAK_\\w+)',
    'BASE_IMAGE|PG_REPOSITORY|PG_MAJORS?|DOCKER_BUILDKIT|RAILWAY_\\w+',
    'WALG_\\w+|NEW_SERVER',
    'PG_TEST_\\w*|PG_MATRIX_\\w*|S3_TEST_\\w*|TEST_(?:SERVERS|SEED|RUNS|PART)|FAULT_(?:CASE|TOLD)',
  ].join('|')})$`,
);

/** In blocks and code spans. */
function variablesOf(page: MarkdownPage): readonly string[] {
  const shells = page.blocks.filter(({ language }) => ['sh', 'yaml', 'console', ''].includes(language));
  const assigned = shells.flatMap(({ text }) => [
    ...text.matchAll(/(?:^|[\s"'])([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?==|: )/gm),
  ]);
  const spans = page.prose.flatMap((text) => [...text.matchAll(/`([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])(?:=[^`]*)?`/g)]);
  return [...assigned, ...spans].map(([, name = '']) => name);
}
