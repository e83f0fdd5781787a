import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { type ArchiveContents, parseContents } from '../../src/formats/directory/contents.ts';
import type { BackupOutcome } from '../../src/operations/backup.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { dataFolderOf } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { runProgram } from './cli.ts';
import { outcomesOf } from './destinations.ts';
import type { TestDatabase } from './postgres.ts';
import { dumpOf } from './restoring.ts';

/** How stock tools restore a directory. */
export type StockWay = 'serial' | 'four at once' | 'as SQL';

async function bytesOf(store: ObjectStore, key: string): Promise<Buffer> {
  const { body } = await store.get(key);
  const blocks: Uint8Array[] = [];
  for await (const block of body) blocks.push(Buffer.from(block));
  return Buffer.concat(blocks);
}

/** Copies the folder of an archive, as `aws s3 cp --recursive` would. */
export async function copyFolder(store: ObjectStore, manifest: Manifest, target: string): Promise<void> {
  const folder = dataFolderOf(manifest) ?? '';
  await mkdir(target, { recursive: true });
  for await (const { key } of store.list(folder)) {
    await writeFile(path.join(target, key.slice(folder.length)), await bytesOf(store, key));
  }
}

/** Of a backup that is neither compressed nor encrypted. */
export async function contentsOf(store: ObjectStore, manifest: Manifest): Promise<ArchiveContents> {
  const key = manifest.objects.find(({ role }) => role === 'contents')?.key ?? '';
  return parseContents(await bytesOf(store, key), key);
}

/** How many rows of each table a backup that was made says it has, by schema and name. */
export async function rowCountsOf(outcome: BackupOutcome, store: ObjectStore): Promise<Record<string, number>> {
  const { manifest } = Object.values(outcomesOf(outcome))[0] ?? {};
  if (manifest === undefined) throw new Error('nothing was committed');
  return rowCountsIn(await contentsOf(store, manifest));
}

export function rowCountsIn({ tables }: Pick<ArchiveContents, 'tables'>): Record<string, number> {
  return Object.fromEntries(tables.map(({ schema, name, rows }) => [`${schema}.${name}`, rows]));
}

/** Keeps the events of what is warned of. */
export function warningsTo(warnings: string[]): Logger {
  const logger: Logger = { ...silentLogger, warning: (event) => void warnings.push(event), child: () => logger };
  return logger;
}

/** Each command has to succeed, in this folder. */
export async function shell(script: string, cwd: string, env: Readonly<Record<string, string>> = {}): Promise<void> {
  const result = await runProgram('sh', ['-euc', script], { cwd, env });
  expect(result).toMatchObject({ exitCode: 0, stderr: expect.not.stringMatching(/error/i) });
}

export async function stockRestore(way: StockWay, folder: string, target: TestDatabase): Promise<void> {
  const commands: Readonly<Record<StockWay, string>> = {
    serial: 'pg_restore --exit-on-error --dbname="" .',
    'four at once': 'pg_restore --exit-on-error --jobs=4 --dbname="" .',
    'as SQL': 'pg_restore --file=- . > ../script.sql; psql -X -q -v ON_ERROR_STOP=1 -f ../script.sql; rm ../script.sql',
  };
  await shell(commands[way], folder, target.env);
}

/** What pg_dump says of a database, whatever the order of its rows: sessions that load at once mix them. */
export async function unorderedDumpOf(database: TestDatabase): Promise<readonly string[]> {
  const text = await dumpOf(database);
  return text.split('\n').sort();
}
