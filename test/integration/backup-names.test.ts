import { describe, expect, test, vi } from 'vitest';
import { expectFailure, fileStorage, pgarkJson, s3Storage, succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase, openDatabase } from '../support/postgres.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

interface Listed {
  readonly storages: readonly {
    readonly backups: readonly { readonly id: string; readonly database: string; readonly source: string }[];
  }[];
}

const SQL = `CREATE SCHEMA "Sch/ema"; CREATE TABLE "Sch/ema"."Tab'le Ü" ("co""l" serial PRIMARY KEY, "ü" text);
  INSERT INTO "Sch/ema"."Tab'le Ü" ("ü") SELECT 'Zeile ' || n FROM generate_series(1, 1000) n;`;

describe.concurrent.each([
  ['an S3 bucket', s3Storage, undefined],
  ['a directory', fileStorage, undefined],
  ['a directory, under a source name that is no better', fileStorage, '.so%ur/ce "é"\\'],
] as const)('a database with an awkward name in %s', (_place, makeStorage, sourceName) => {
  test('goes through the whole cycle into one with another awkward name', async () => {
    await using storage = await makeStorage();
    await using database = await createDatabase({ name: `we"ird/na me-Ü`, sql: SQL });
    await using restored = openDatabase(`%an'other \\ "näme"/../x ${database.name.slice(-6)}`);
    const env = {
      ...storage.env,
      DATABASE_URL: database.url,
      ...(sourceName === undefined ? {} : { BACKUP_NAME: sourceName }),
    };
    await succeed(['backup'], env);

    // Names keep what people know them by; the slash, the percent sign and a leading dot are encoded.
    const segment = database.name.replace('/', '%2F');
    const source = sourceName === undefined ? segment : '%2Eso%25ur%2Fce "é"\\';
    const keys = await storage.keys();
    const data = keys.find((key) => !key.startsWith('.pgark/')) ?? '';
    expect(data.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/, 'TIME')).toBe(`${segment}_TIME.sql.gz`);
    expect(keys).toContainEqual(expect.stringMatching(/^\.pgark\/backups\//));
    expect(keys.filter((key) => key.startsWith('.pgark/backups/')).map((key) => key.split('/').slice(2, -1))).toEqual([
      [source, segment],
    ]);

    const listed = await pgarkJson<Listed>(['list', database.name], env);
    const [backup] = listed.storages[0]?.backups ?? [];
    expect(backup).toMatchObject({ database: database.name, source: sourceName ?? database.name });
    expect((await succeed(['list'], env)).stdout).toContain(database.name);
    for (const name of ['latest', backup?.id ?? '', data]) {
      expect((await succeed(['show', name], env)).stdout).toContain(database.name);
    }
    await succeed(['verify', '--deep'], env);
    await succeed(['restore', data, '--to-db', restored.name], env);
    const rows = `SELECT * FROM "Sch/ema"."Tab'le Ü" ORDER BY 1`;
    expect(await restored.query(rows)).toEqual(await database.query(rows));
    const unknown = await runPgark(['list', `${database.name}x`], { env });
    expectFailure(unknown, { exit: 10, message: /there is no backup of we"ird\/na me-Ü/, hint: /shows all/ });
  });
});
