import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import type { PgarkError } from '../../src/common/errors.ts';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { restoreInto } from '../support/archive-restoring.ts';
import { backUp, fileDestination, keysOf } from '../support/destinations.ts';
import { createDatabase, createRole, runAsSuperuser } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { bytesOf } from '../support/streams.ts';

const SECRET = 'hunter2';

/** All that a restore says which fails: its error, its log with what is for debugging, what it leaves in the store. */
async function failingRestore(store: ObjectStore): Promise<{ readonly message: string; readonly all: string }> {
  const events: string[] = [];
  const note = (event: string, message: string, fields?: unknown): void =>
    void events.push(`${event} ${message} ${JSON.stringify(fields)}`);
  const logger: Logger = { ...silentLogger, debug: note, info: note, warning: note, error: note, child: () => logger };
  const { message, hint } = await restoreInto(futureDatabase('never'), store, { context: { logger } }).then(
    () => expect.unreachable(),
    (failure: PgarkError) => failure,
  );
  const kept = (await keysOf(store)).filter((key) => /^\.pgark\/(runs|logs)\//.test(key));
  const texts = await Promise.all(kept.map(async (key) => (await bytesOf((await store.get(key)).body)).toString()));
  expect(texts.filter((text) => text.includes('restore-failed')).length).toBeGreaterThan(0);
  return { message, all: [message, hint, ...events, ...texts].join('\n') };
}

/** A check that a row passes only where it was dumped. */
const checkedSql = (check: string): string => `CREATE TABLE people (id int, name text);
  INSERT INTO people VALUES (1, 'somebody'), (2, E'one\\n${SECRET}\\nline');
  ALTER TABLE people ADD CONSTRAINT only_there CHECK (current_database() NOT LIKE '%restoring%' OR ${check});`;

describe('a restore that fails', () => {
  test.each(['directory', 'plain'] as const)(
    'names the role that is missing, and not the password of its user mapping: format %s',
    async (format) => {
      await using place = await fileDestination('place');
      await using role = await createRole();
      const [name, away] = [role.user, `${role.user} away`].map((each) => escapeIdentifier(each)) as [string, string];
      await using source = await createDatabase({
        name: 'src',
        sql: `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
          CREATE USER MAPPING FOR ${name} SERVER s OPTIONS ("user" 'app', password E'${SECRET}\\nHINT: ${SECRET}')`,
      });
      await backUp(source, [place], { format });
      await source.query(`DROP USER MAPPING FOR ${name} SERVER s`);
      await runAsSuperuser(`ALTER ROLE ${name} RENAME TO ${away}`);
      try {
        const { message, all } = await failingRestore(place.store);
        expect(message).toContain(`role "${role.user}" does not exist`);
        if (format === 'directory') expect(message).toContain('Command was: CREATE USER MAPPING FOR ');
        expect(all).not.toContain(SECRET);
      } finally {
        await runAsSuperuser(`ALTER ROLE ${away} RENAME TO ${name}`);
      }
    },
  );

  test.each([
    ['plain', 'false', /violates check constraint "only_there".*CONTEXT: {2}COPY people, line 1$/],
    ['directory', 'false', /violates check constraint "only_there"/],
    ['plain', 'name::int > id', /invalid input syntax for type integer: …/],
    ['directory', 'name::int > id', /invalid input syntax for type integer: …/],
  ] as const)(
    'says why a row was refused, and nothing of the row: format %s, CHECK (%s)',
    async (format, check, why) => {
      await using place = await fileDestination('place');
      await using source = await createDatabase({ name: 'src', sql: checkedSql(check) });
      await backUp(source, [place], { format });
      const { message, all } = await failingRestore(place.store);
      expect(message).toMatch(why);
      expect(all).not.toContain(SECRET);
      expect(all).not.toContain('somebody');
    },
  );
});
