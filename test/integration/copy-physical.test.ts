import { rm, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../../src/cli/program.ts';
import { cliWorld, recordingTerminal } from '../support/cli-world.ts';
import { Cluster } from '../support/cluster.ts';
import { ServerFolder } from '../support/physical.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

let cluster: Cluster;
let folder: ServerFolder;
let place: TempDirectory;

beforeAll(async () => {
  place = await makeTempDirectory();
  cluster = await Cluster.start({ initdb: ['--data-checksums', '--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
  await cluster.sql('CREATE TABLE here AS SELECT n, md5(n::text) AS t FROM generate_series(1, 5000) AS n');
  const url = `postgres://postgres@127.0.0.1:${cluster.port}/postgres?sslmode=disable`;
  await writeFile(
    place.join('pgark.yaml'),
    `version: 1
storages:
  disk: { type: file, path: disk }
  offsite: { type: file, path: offsite }
encryption:
  box: { type: openssl, passphrase: correct horse battery staple of thirty-two }
databases:
  main:
    url: ${url}
    jobs:
      full: { format: physical, to: [disk], encryption: box }
`,
  );
});
afterAll(async () => {
  await folder[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

async function pgark(...argv: readonly string[]): Promise<{ exit: number; out: string; err: string }> {
  const terminal = recordingTerminal();
  const exit = await runCli([...argv, '--config', 'pgark.yaml'], cliWorld(terminal, {}, place.path));
  return { exit, out: terminal.stdout(), err: terminal.stderr() };
}

describe('a copy of a physical backup', () => {
  test('is restored to its end by what lies beside it alone, after the server and the first storage are gone', async () => {
    expect(await pgark('backup', 'main')).toMatchObject({ exit: 0 });
    await cluster.sql('INSERT INTO here SELECT n, md5(n::text) FROM generate_series(5001, 6000) AS n');
    const copied = await pgark('copy', 'latest', '--to', 'offsite');
    expect(copied).toMatchObject({ exit: 0 });
    expect(copied.out).toMatch(/WAL +\d+ objects? copied/);
    const [, command = ''] =
      /restore +pgark (restore \S+ --storage offsite --to-dir) DIR --immediate/.exec(copied.out) ?? [];
    expect(copied.out).toContain('WAL behind that is not copied');
    await rm(place.join('disk'), { recursive: true });
    expect(await pgark('verify', 'latest', '--storage', 'offsite')).toMatchObject({ exit: 0 });
    const data = folder.join('data');
    const restored = await pgark(...command.split(' '), data, '--immediate');
    expect(restored).toMatchObject({ exit: 0 });
    const server = await folder.start(data);
    expect(await server.value('select count(*) from here')).toBe('5000');
    await folder.stop(data);
  });
});
