import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { TestContext } from 'vitest';
import { messageOf } from '../../src/common/errors.ts';
import { runAsSuperuser } from './postgres.ts';

/** An extension that tests can create in their databases; `await using` removes its files. */
export interface ConfigExtension extends AsyncDisposable {
  readonly name: string;
}

/**
 * Makes an extension known to the server whose tables hold rows of users, as those of pg_cron, pg_partman and PostGIS do:
 * `parent (id, label)`, and `child (id, parent_id, filler)` with a foreign key to it, whose name comes first in the
 * alphabet. Rows of parents below 1 are the extension's own. The tables are in the schema that the extension is created
 * in; `moreSql` makes more. Where the server's folder of extensions cannot be written the test is skipped, and says why.
 */
export async function makeConfigExtension(context: TestContext, moreSql = ''): Promise<ConfigExtension> {
  const name = `pgark_test_${randomBytes(5).toString('hex')}`;
  const [shared] = await runAsSuperuser<{ folder: string }>(
    `SELECT setting AS folder FROM pg_config WHERE name = 'SHAREDIR'`,
  );
  const folder = path.join(shared?.folder ?? '', 'extension');
  const contents = new Map([
    [path.join(folder, `${name}.control`), `default_version = '1'\nrelocatable = true\n`],
    [path.join(folder, `${name}--1.sql`), EXTENSION_SQL + moreSql],
  ]);
  const dispose = async (): Promise<void> => {
    for (const file of contents.keys()) await rm(file, { force: true });
  };
  let missing: string | undefined;
  try {
    for (const [file, content] of contents) await writeFile(file, content, { flag: 'wx' });
    const known = await runAsSuperuser('SELECT FROM pg_available_extensions WHERE name = $1', [name]);
    if (known.length === 0) missing = 'the server has another one';
  } catch (error) {
    missing = messageOf(error);
  }
  if (missing !== undefined) {
    await dispose();
    const reason = `no extension can be made in ${folder}: ${missing}`;
    // The reporter prints none of its own.
    process.stderr.write(`skipped "${context.task.name}": ${reason}\n`);
    context.skip(reason);
  }
  return { name, [Symbol.asyncDispose]: dispose };
}

const EXTENSION_SQL = `
CREATE TABLE parent (id int PRIMARY KEY, label text);
INSERT INTO parent VALUES (0, 'of the extension itself');
CREATE TABLE child (id int PRIMARY KEY, parent_id int NOT NULL REFERENCES parent, filler text);
SELECT pg_extension_config_dump('parent', 'WHERE id > 0');
SELECT pg_extension_config_dump('child', '');
`;
