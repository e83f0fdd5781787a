import { cp, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { findServerPrograms } from '../../src/postgres/server/server-programs.ts';
import { CONTENT_SQL, GOLDEN_PASSPHRASE } from '../golden/content.ts';
import { pgarkJson, succeed } from '../support/backups.ts';
import { runProgram } from '../support/cli.ts';
import { ServerFolder } from '../support/physical.ts';
import { createDatabase, openDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

const repositories = path.resolve(import.meta.dirname, '../golden/repositories');
const names = await readdir(repositories);

interface Expected {
  readonly serverMajor: number;
  readonly backups: number;
  readonly content: string;
}

interface Listed {
  readonly storages: readonly { readonly backups: readonly { readonly id: string; readonly format: string }[] }[];
}

async function majorOf(binDir: string): Promise<number> {
  const { stdout } = await runProgram(path.join(binDir, 'postgres'), ['--version']);
  return Number(/ (\d+)/.exec(stdout)?.[1]);
}

test('there are repositories of earlier versions', () => {
  expect(names.length).toBeGreaterThan(0);
});

describe.each(names)('the repository %s, as it was written then,', (name) => {
  test('is listed, whole to its last byte, and restored in each of its forms', { timeout: 480_000 }, async () => {
    await using copy = await makeTempDirectory();
    await cp(path.join(repositories, name, 'storage'), copy.join('storage'), { recursive: true });
    // The restored server fetches its WAL under an account of its own.
    await runProgram('chmod', ['-R', 'a+rX', copy.path]);
    const expected = JSON.parse(await readFile(path.join(repositories, name, 'expected.json'), 'utf8')) as Expected;
    await using database = await createDatabase({ name: 'golden' });
    const env = {
      DATABASE_URL: database.url,
      BACKUP_STORAGE: `file://${copy.join('storage')}`,
      BACKUP_NAME: 'golden',
      BACKUP_ENCRYPTION_KEY: GOLDEN_PASSPHRASE,
    };
    const { storages } = await pgarkJson<Listed>(['list'], env);
    const backups = storages.flatMap((storage) => storage.backups);
    expect(backups).toHaveLength(expected.backups);
    await succeed(['verify', '--deep'], env);

    for (const { id, format } of backups) {
      if (format === 'physical') {
        const binDir = await findServerPrograms();
        await using folder = await ServerFolder.make(binDir);
        if ((await majorOf(binDir)) !== expected.serverMajor) {
          process.stdout.write(
            `${name}: ${id} is verified and not restored: no PostgreSQL ${expected.serverMajor} here\n`,
          );
          continue;
        }
        const data = folder.join('data');
        await succeed(['restore', id, '--to-dir', data], env);
        const server = await folder.start(data);
        expect({ id, content: await server.value(CONTENT_SQL) }).toEqual({ id, content: expected.content });
        await folder.stop(data);
        continue;
      }
      const target = `${database.name} ${id}`;
      await succeed(['restore', id, '--to-db', target], env);
      const restored = openDatabase(target);
      try {
        const [row] = await restored.query<{ content: string }>(CONTENT_SQL.replace(/\)$/, ') AS content'));
        expect({ id, content: row?.content }).toEqual({ id, content: expected.content });
      } finally {
        await restored.drop();
      }
    }
  });
});
