import type { z } from 'zod';
import type { BuildContext } from './context.ts';
import type { Path } from './origins.ts';
import { configSchema, type Sections } from './schema.ts';
import { didYouMean, likelyMeant } from './suggest.ts';
import { isMapping, valueAt } from './tree.ts';

type Issue = z.core.$ZodIssue;

/** Checks a tree of plain values against the schema and its references; reports everything that is wrong. */
export function checkSections(context: BuildContext, tree: unknown): Sections | undefined {
  const result = configSchema.safeParse(tree);
  for (const issue of result.error?.issues ?? []) reportIssue(context, tree, issue, []);
  checkReferences(context, tree);
  return result.success ? result.data : undefined;
}

function reportIssue(context: BuildContext, tree: unknown, issue: Issue, base: Path): void {
  const path: Path = [
    ...base,
    ...issue.path.map((segment) => (typeof segment === 'symbol' ? String(segment) : segment)),
  ];
  const value = valueAt(tree, path);
  if (issue.code === 'unrecognized_keys') {
    const lines = issue.message.split('\n');
    issue.keys.forEach((key, index) => {
      context.problem([...path, key], 'config-invalid', lines[index] ?? 'unknown key');
    });
    return;
  }
  if (issue.code === 'invalid_union') {
    // The branch that got beyond the value itself is the one that was meant.
    const branch = issue.errors.find((issues) => issues.length > 0 && issues.every((inner) => inner.path.length > 0));
    if (branch !== undefined) {
      for (const inner of branch) reportIssue(context, tree, inner, path);
      return;
    }
  }
  if (value === undefined) {
    const options = 'options' in issue && Array.isArray(issue.options) ? `: ${issue.options.join(', ')}` : '';
    context.problem(path, 'config-missing', `is required${options}`);
    return;
  }
  const code = issue.code === 'custom' && issue.params?.['code'] === 'cron-invalid' ? 'cron-invalid' : undefined;
  const general = path[0] === 'storages' ? 'storage-config-invalid' : 'config-invalid';
  context.problem(path, code ?? general, describeIssue(issue, value));
}

function describeIssue(issue: Issue, value: unknown): string {
  // A schema's own complaint says more than its kind; zod's begin so.
  if (issue.code === 'invalid_type' && !issue.message.startsWith('Invalid input')) return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${withArticle(issue.expected)}, not ${kindOf(value)}${
        issue.expected === 'string' && typeof value === 'number' ? '; put it in quotes' : ''
      }`;
    case 'invalid_value':
      // A single value is a literal with a message of its own.
      return issue.values.length < 2 ? issue.message : oneOf(value, issue.values.map(String));
    case 'invalid_union':
      if ('options' in issue && Array.isArray(issue.options)) return oneOf(value, issue.options.map(String));
      return issue.message;
    case 'too_small':
      return issue.origin === 'array' ? 'must not be an empty list' : issue.message;
    default:
      return issue.message;
  }
}

function oneOf(value: unknown, known: readonly string[]): string {
  const near = typeof value === 'string' ? likelyMeant(value, known) : undefined;
  return `must be one of ${known.join(', ')}${near === undefined ? '' : `; did you mean "${near}"?`}`;
}

function withArticle(expected: string): string {
  const words: Readonly<Record<string, string>> = {
    array: 'a list',
    object: 'a map',
    record: 'a map',
    string: 'a text',
    int: 'a whole number',
  };
  return words[expected] ?? `a ${expected}`;
}

function kindOf(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'a map' : typeof value === 'string' ? 'a text' : `a ${typeof value}`;
}

/** Looks at names that other sections must define, in a tree that may be wrong in any other way. */
function checkReferences(context: BuildContext, tree: unknown): void {
  const known = (section: string): readonly string[] => entriesOf(valueAt(tree, [section])).map(([name]) => name);
  const check = (path: Path, section: string, extra: readonly string[] = []): void => {
    const value = valueAt(tree, path);
    for (const [index, name] of (Array.isArray(value) ? value : [value]).entries()) {
      if (typeof name !== 'string' || name === '' || known(section).includes(name) || extra.includes(name)) continue;
      const at = Array.isArray(value) ? [...path, index] : path;
      const suggestion = didYouMean(name, known(section));
      context.problem(at, 'config-invalid', `"${name}" is not defined under ${section}${suggestion}`);
    }
  };
  check(['defaults', 'notify'], 'notifications');
  for (const [database, section] of entriesOf(valueAt(tree, ['databases']))) {
    const path = ['databases', database];
    check([...path, 'notify'], 'notifications');
    check([...path, 'encryption'], 'encryption');
    check([...path, 'wal', 'to'], 'storages');
    for (const [job] of entriesOf(valueAt(section, ['jobs']))) {
      check([...path, 'jobs', job, 'to'], 'storages');
      check([...path, 'jobs', job, 'retention'], 'retention');
      check([...path, 'jobs', job, 'encryption'], 'encryption', ['none']);
    }
  }
}

function entriesOf(value: unknown): readonly (readonly [string, unknown])[] {
  return isMapping(value) ? Object.entries(value) : [];
}
