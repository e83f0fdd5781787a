import { describe, expect, test } from 'vitest';
import { errorTable, exitCodes } from './error-table.ts';

/** Run `npm run generate` to write the file again after a change of the table. */
const DOCUMENT = '../../docs/errors.md';

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

const errors = Object.entries(errorTable);
const usedExits = new Set<number>([0, ...errors.map(([, { exit }]) => exit)]);

function reference(): string {
  const exits = Object.entries(exitCodes).map(([code, meaning]) => [
    code,
    `${meaning}${usedExits.has(Number(code)) ? '' : ' (kept for later; no command ends with it yet)'}`,
  ]);
  const byName = [...errors].sort(([a], [b]) => (a < b ? -1 : 1));
  return `# Errors

<!-- Made from src/common/error-table.ts by npm run generate; changes here are lost. -->

An error has three parts: what failed and why (\`error\`), what to do about it (\`hint\`), and a code that never changes its
meaning, for programs: \`code\` of a \`PgarkError\` in the library, \`error.code\` in \`--output json\`, \`code\` in JSON logs. Where
an error comes from is shown with \`-v\` only.

\`\`\`
error  cannot reach PostgreSQL at db.example.com:5432: connect ECONNREFUSED 10.0.0.5:5432
  hint check host, port and that the server runs and accepts connections from here
\`\`\`

## Exit codes

${table(['Status', 'Meaning'], exits)}

Where several databases or storages are worked on and only some fail, the status is 4; where all fail, it is that of the
first failure. What says of damage comes first in either case: then it is 20. Of several storages each is worked on by itself, so one
that is away keeps nothing from being done or shown in the others; \`storage NAME: error …\` on stderr says of each that failed why
([adr/0087](adr/0087-storages-that-are-away.md)).

## Codes

The remedy is the hint that is shown where the place of failure knows no better one.

${table(
  ['Code', 'Exit', 'What happened', 'What to do'],
  byName.map(([code, { exit, meaning, remedy }]) => [
    `\`${code}\``,
    String(exit),
    meaning,
    `${remedy[0]?.toUpperCase() ?? ''}${remedy.slice(1)}.`.replace(/^Pgark/, 'pgark'),
  ]),
)}
`;
}

describe('the error table', () => {
  test('is what docs/errors.md says', async () => {
    await expect(reference()).toMatchFileSnapshot(DOCUMENT);
  });

  test('leads to exit codes that are explained', () => {
    const unexplained = errors.filter(([, { exit }]) => !(String(exit) in exitCodes)).map(([code]) => code);
    expect(unexplained).toEqual([]);
  });

  test.each(errors)(
    'says of %s in one sentence what happened, and in a clause what to do',
    (code, { meaning, remedy }) => {
      expect(code).toMatch(/^[a-z]+(-[a-z]+)*$/);
      expect(meaning).toMatch(/^(\p{Lu}|pgark|pg_dump).*\.$/u);
      expect(remedy).toMatch(/^\p{Ll}.*[^.]$/u);
    },
  );
});
