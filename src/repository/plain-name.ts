import { PgarkError } from '../common/errors.ts';
import type { ObjectKey } from '../storage/object-store.ts';
import { STATE_PREFIX } from './keys.ts';
import { encodeName } from './names.ts';

/** What a template's braces may hold beside a time pattern. */
export interface PlainNameFacts {
  readonly source: string;
  readonly database: string;
  readonly id: string;
  /** Start of the backup; time patterns are written in UTC. */
  readonly startedAt: Date;
}

export const PLAIN_NAME_TEMPLATE = '{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz';

/** Endings that a template may write out; the one that fits the compression takes their place. */
const WRITTEN_ENDING = /\.sql(\.(gz|zst))?$/;
const TIME_TOKEN = /YYYY|YY|MM|DD|HH|SS/g;
const FIELD = /\{([^{}]*)\}/g;

type Part = { readonly text: string } | { readonly field: 'database' | 'source' | 'id' } | { readonly time: string };

/**
 * Name of a plain backup's object by the user's template: `{database}`, `{source}`, `{id}`, and times such as
 * `{YYYY-MM-DD_HH-MM-SS}` in which `MM` after `HH` is the minute. `endings` (`.gz`, `.age` …) follow `.sql`. Slashes in
 * the template make folders; slashes in names are encoded. Error: `config-invalid`.
 */
export function plainName(template: string, facts: PlainNameFacts, endings: readonly string[]): ObjectKey {
  const name = parseTemplate(template)
    .map((part) => {
      if ('text' in part) return part.text;
      if ('time' in part) return formatTime(part.time, facts.startedAt);
      return encodeName(facts[part.field]);
    })
    .join('');
  return `${name}.sql${endings.join('')}`;
}

/**
 * Checks a template before any work: no two backups may get the same name, whenever they start. `severalDatabases`: more
 * than one is backed up under it in one storage. `severalOfOneSource`: they may be of one source, so that its name does
 * not tell them apart. Error: `config-invalid`, naming the template and what is wrong.
 */
export function checkPlainNameTemplate(
  template: string,
  options: { readonly severalDatabases: boolean; readonly severalOfOneSource?: boolean },
): void {
  const names = parseTemplate(template).flatMap((part) => ('field' in part ? [part.field] : []));
  if (names.includes('id')) return;
  if (options.severalOfOneSource === true && !names.includes('database')) {
    throw invalid(
      template,
      'it has no {database}, and several databases of one source are backed up under it',
      'add {database}',
    );
  }
  if (options.severalDatabases && !names.includes('database') && !names.includes('source')) {
    throw invalid(
      template,
      'it has no {database} and no {source}, and several databases are backed up under it in one storage',
      'add {database} or {source}',
    );
  }
  const facts = { source: 'x', database: 'x', id: 'x' };
  const rendered = TELLING_TIMES_MS.map((ms) => plainName(template, { ...facts, startedAt: new Date(ms) }, []));
  if (new Set(rendered).size < rendered.length) {
    throw invalid(
      template,
      'two backups would get the same name: it needs year, month, day, hours, minutes and seconds',
      'add {YYYY-MM-DDTHH:MM:SSZ} or {id}',
    );
  }
}

/** A moment, and six others that differ from it in nothing but seconds, minutes, hours, day, month or year. */
const TELLING_TIMES_MS = [
  '2028-01-01T00:00:00Z',
  '2028-01-01T00:00:01Z',
  '2028-01-01T00:01:00Z',
  '2028-01-01T01:00:00Z',
  '2028-01-02T00:00:00Z',
  '2028-02-01T00:00:00Z',
  '2029-01-01T00:00:00Z',
].map((time) => Date.parse(time));

function parseTemplate(template: string): readonly Part[] {
  const body = template.replace(WRITTEN_ENDING, '');
  const parts: Part[] = [];
  let end = 0;
  for (const match of body.matchAll(FIELD)) {
    if (match.index > end) parts.push({ text: body.slice(end, match.index) });
    parts.push(parseField(template, match[1] ?? ''));
    end = match.index + match[0].length;
  }
  if (end < body.length) parts.push({ text: body.slice(end) });
  const text = parts.map((part) => ('text' in part ? part.text : 'x')).join('');
  if (/[{}]/.test(text)) throw invalid(template, 'a brace is not closed', 'write fields as {database}');
  if (text === '' || text.split('/').some((segment) => segment === '' || segment.startsWith('.'))) {
    throw invalid(
      template,
      'a part of the path is empty or begins with a dot',
      'write folder/{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz',
    );
  }
  if (text.startsWith(STATE_PREFIX)) throw invalid(template, `${STATE_PREFIX} is pgark's own`, 'use another folder');
  return parts;
}

function parseField(template: string, field: string): Part {
  if (field === 'database' || field === 'source' || field === 'id') return { field };
  const tokens = field.match(TIME_TOKEN) ?? [];
  if (tokens.length > 0 && /^[TZ_.:\- ]*$/.test(field.replaceAll(TIME_TOKEN, ''))) return { time: field };
  throw invalid(
    template,
    `{${field}} is unknown`,
    'fields are {database}, {source}, {id} and times such as {YYYY-MM-DDTHH:MM:SSZ}',
  );
}

function formatTime(pattern: string, time: Date): string {
  const text = time.toISOString();
  let hourSeen = false;
  return pattern.replaceAll(TIME_TOKEN, (token) => {
    switch (token) {
      case 'YYYY':
        return text.slice(0, 4);
      case 'YY':
        return text.slice(2, 4);
      case 'DD':
        return text.slice(8, 10);
      case 'HH':
        hourSeen = true;
        return text.slice(11, 13);
      case 'SS':
        return text.slice(17, 19);
      default:
        return hourSeen ? text.slice(14, 16) : text.slice(5, 7);
    }
  });
}

function invalid(template: string, why: string, hint: string): PgarkError {
  return new PgarkError('config-invalid', `the file name template "${template}" is not usable: ${why}`, { hint });
}
