import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { recordWhenFinished } from '../compatibility/facts.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';
import { type ArchiveDatabase, archiveDatabases, type Workshop } from './archive-databases.ts';
import {
  backUpOf,
  copyByStock,
  differencesOf,
  dropCopy,
  linesOf,
  restoreOwn,
  restoreStock,
  stockWays,
} from './archive-ways.ts';
import { type MatrixClient, type MatrixServer, readMatrixFolders, startMatrixServer } from './matrix-servers.ts';
import { readRegressionFolders } from './regression-database.ts';
import { ROLES_SQL } from './matrix-database.ts';

const folders = await readMatrixFolders();
const regressionFolders = await readRegressionFolders();
const newest = [...folders.clients.values()].at(-1);
if (newest === undefined) throw new Error('no client');
const workshopOf = (scratch: string): Workshop => ({ regressionFolders, client: newest, scratch });

/** Every client that can dump the server. */
const dumpersOf = (major: number): MatrixClient[] =>
  [...folders.clients.values()].filter((client) => client.major >= major);

describe.each([...folders.servers])('PostgreSQL %i', (major, binDir) => {
  let server: MatrixServer;
  let scratch: TempDirectory;
  const made = new Set<string>();
  let copies = 0;

  beforeAll(async () => {
    server = await startMatrixServer(major, binDir);
    scratch = await makeTempDirectory();
    await server.query(ROLES_SQL);
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await scratch[Symbol.asyncDispose]();
  });

  /** Made when it is first asked for, so that one of them can be tried alone. */
  async function provide({ name, make }: ArchiveDatabase): Promise<void> {
    if (made.has(name)) return;
    await server.createDatabase(name);
    await make(server, name, workshopOf(scratch.path));
    await server.query('ANALYZE', name);
    made.add(name);
  }

  const databases = archiveDatabases.filter(({ isFor }) => isFor(major, { regressionFolders }));
  const cases = databases.flatMap((database) => dumpersOf(major).map((client) => ({ database, client })));

  test.each(cases.map(({ database, client }) => [database.name, client.major, { database, client }] as const))(
    'the %s database by clients of %i comes back the same by every way',
    { timeout: 3_600_000 },
    async (_name, _major, { database, client }) => {
      const versions = { server: server.version, client: client.version };
      recordWhenFinished('archives', { kind: 'archive', ...versions, database: database.name, outcome: 'yes' });
      await provide(database);
      await using place = await makeTempDirectory();
      const { name, pieceBytes, isReordered = false } = database;
      const backedUp = await backUpOf(server, name, { client, root: place.path, pieceBytes });
      const source = { errors: [], lines: await linesOf(server, name, client) };
      /** What comes of a way, and then is dropped. */
      const outcomeOf = async (restore: (copy: string) => Promise<readonly string[]>) => {
        const copy = `copy ${(copies += 1)}`;
        const errors = await restore(copy);
        const lines = await linesOf(server, copy, client);
        await dropCopy(server, copy);
        return { errors, lines };
      };
      // Stock tools bring back something else by themselves where they are out of step with the server.
      const byStock =
        isReordered || client.major !== major
          ? await outcomeOf((copy) =>
              copyByStock(server, copy, { client, database: name, scratch: place.join('stock') }),
            )
          : source;

      const own = await outcomeOf(async (copy) => {
        await restoreOwn(server, copy, { loader: client.loads ? client : newest, backedUp });
        return [];
      });
      const differences = differencesOf(source.lines, own.lines);
      expect(isReordered && differences.length > 0 ? differencesOf(byStock.lines, own.lines) : differences).toEqual([]);
      for (const way of stockWays) {
        const { errors, lines } = await outcomeOf((copy) =>
          restoreStock(way, server, copy, { client, folder: place.join(backedUp.folder) }),
        );
        expect({ way, errors }).toEqual({ way, errors: byStock.errors });
        expect({ way, differences: differencesOf(byStock.lines, lines) }).toEqual({ way, differences: [] });
      }
      vi.unstubAllEnvs();
    },
  );
});
