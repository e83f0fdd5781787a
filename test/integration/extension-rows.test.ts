import { describe, expect, test } from 'vitest';
import { makeConfigExtension } from '../support/config-extension.ts';
import { createDatabase } from '../support/postgres.ts';
import { dumpOf, makeBackup, pgark } from '../support/restoring.ts';
import { fileStorage } from '../support/storage.ts';

const ROWS = `INSERT INTO parent VALUES (1, 'one'), (2, 'two'); INSERT INTO child VALUES (7, 1, 'seven'), (8, 0, 'eight')`;

describe('rows of users in tables of an extension', { timeout: 300_000 }, () => {
  test('are none yet where the extension alone is there, with its tables and their indexes', async (context) => {
    await using extension = await makeConfigExtension(context);
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: `CREATE EXTENSION ${extension.name}; ${ROWS}` });
    await using target = await createDatabase({ name: 'ext', sql: `CREATE EXTENSION ${extension.name}` });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(target)).toBe(await dumpOf(source));
  });
});
