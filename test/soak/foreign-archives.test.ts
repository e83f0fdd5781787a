import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createSampleDatabase } from '../../src/demo/sample-database.ts';
import { runProgram } from '../support/cli.ts';
import { fileStorage } from '../support/storage.ts';
import { SAMPLE_SINCE } from './archive-databases.ts';
import { dropCopy, linesOf } from './archive-ways.ts';
import { done } from './matrix-place.ts';
import { type MatrixServer, readMatrixFolders, startMatrixServer } from './matrix-servers.ts';

/** The first pg_dump that knows methods by name. */
const METHODS_SINCE = 16;

const folders = await readMatrixFolders();
/** The oldest server that takes the sample database, and the newest. */
const able = [...folders.servers.keys()].filter((major) => major >= SAMPLE_SINCE);
const majors = able.filter((major) => major === able.at(0) || major === able.at(-1));
const cases = [...folders.clients.values()].flatMap((client) => {
  const methods = client.major >= METHODS_SINCE ? ['none', 'gzip:1', 'lz4', 'zstd:1'] : ['0', '1'];
  const dumped = majors.filter((major) => client.major >= major);
  return dumped.flatMap((major) => methods.map((method) => [client.major, method, major] as const));
});
const servers = new Map<number, MatrixServer>();
let storage: Awaited<ReturnType<typeof fileStorage>>;

beforeAll(async () => {
  storage = await fileStorage();
  for (const major of majors) {
    const server = await startMatrixServer(major, folders.servers.get(major) ?? '');
    servers.set(major, server);
    await server.createDatabase('source');
    await server.withClient('source', (client) => createSampleDatabase(client, { scale: 0.05 }));
  }
}, 300_000);

afterAll(async () => {
  for (const each of [...servers.values(), storage]) await each[Symbol.asyncDispose]();
});

test.each(cases)(
  'an archive that pg_dump %i has compressed by %s is restored into a server %i',
  { timeout: 300_000 },
  async (clientMajor, method, major) => {
    const [server, client] = [servers.get(major), folders.clients.get(clientMajor)];
    if (server === undefined || client === undefined) throw new Error('not there');
    const file = `theirs-${clientMajor}-${method.replace(':', '-')}-${major}.dump`;
    const args = ['--no-password', '-Fc', `--compress=${method}`, '-f', path.join(storage.path, file)];
    const env = server.environment('source');
    expect(await runProgram(path.join(client.binDir, 'pg_dump'), args, { env })).toMatchObject({ exitCode: 0 });
    const place = { server, database: 'source', storage };
    await done(place, client, ['restore', file, '--to-db', 'copy', '--no-analyze']);
    expect(await linesOf(server, 'copy', client)).toEqual(await linesOf(server, 'source', client));
    await dropCopy(server, 'copy');
  },
);
