import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chooseLoader, findPrograms, type InstalledProgram } from './programs.ts';

const copies = (...versions: readonly [major: number, minor: number][]): InstalledProgram[] =>
  versions.map(([major, minor]) => ({ path: `/bin/${major}`, major, minor, version: `${major}.${minor}` }));

/** Both programs of the same versions, as packages bring them. */
const both = (...versions: readonly [major: number, minor: number][]) => ({
  psql: copies(...versions),
  pg_restore: copies(...versions),
});

describe('what loads a dump', () => {
  test('is of the server’s version, or of the dump’s if that is newer and here', () => {
    const installed = both([15, 18], [16, 14], [17, 10]);
    const majorFor = (server: number, dump?: number): number =>
      chooseLoader('sql', installed, { server, dump }).program.major;
    expect(majorFor(15)).toBe(15);
    expect(majorFor(15, 13)).toBe(15);
    expect(majorFor(15, 16)).toBe(16);
    expect(majorFor(15, 18)).toBe(17);
    expect(majorFor(14)).toBe(15);
  });

  test('is missed by its name', () => {
    const majors = { server: 15, dump: undefined };
    expect(() => chooseLoader('sql', both(), majors)).toThrow('psql is not installed');
    expect(() => chooseLoader('archive', both(), majors)).toThrow('pg_restore is not installed');
    expect(() => chooseLoader('sql', both([14, 20]), majors)).toThrow('the newest psql here is of version 14');
  });

  test('is no psql that would run the dump’s own commands, while pg_restore never does', () => {
    const majors = { server: 15, dump: undefined };
    expect(() => chooseLoader('sql', both([15, 13]), majors)).toThrow('psql 15.13 does not know \\restrict');
    expect(chooseLoader('archive', both([15, 13]), majors).program.minor).toBe(13);
  });

  test('is a newer psql where that of the server’s own version would run the dump’s commands', () => {
    const majors = { server: 15, dump: undefined };
    expect(chooseLoader('sql', both([15, 13], [17, 10]), majors).program.major).toBe(17);
    expect(() => chooseLoader('sql', both([14, 20], [15, 13]), majors)).toThrow('psql 15.13 does not know');
  });

  test('is psql, behind a pg_restore that makes SQL, where the server lacks what a newer pg_restore sets', () => {
    const installed = both([15, 18], [16, 14], [17, 10]);
    const chosen = (server: number, dump?: number) => {
      const { program, unpacker } = chooseLoader('archive', installed, { server, dump });
      return [program.major, unpacker?.major];
    };
    // An archive of pg_dump 15 or 16 needs no newer pg_restore.
    expect(chosen(14, 15)).toEqual([15, undefined]);
    expect(chosen(14, 16)).toEqual([16, undefined]);
    expect(chosen(16, 17)).toEqual([17, 17]);
    expect(chosen(17, 17)).toEqual([17, undefined]);
    const newestOnly = both([18, 4]);
    expect(chooseLoader('archive', newestOnly, { server: 14, dump: 14 }).unpacker?.major).toBe(18);
    expect(() =>
      chooseLoader('archive', { psql: [], pg_restore: newestOnly.pg_restore }, { server: 14, dump: 14 }),
    ).toThrow('psql is not installed');
  });
});

describe('the programs that are found', () => {
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'pgark-programs-'));
    for (const [place, version] of [
      ['on-path', '96.1'],
      ['named', '97.2 (Some 97.2-1)'],
    ] as const) {
      await mkdir(join(folder, place));
      await writeFile(join(folder, place, 'psql'), `#!/bin/sh\necho 'psql (PostgreSQL) ${version}'\n`);
      await chmod(join(folder, place, 'psql'), 0o755);
    }
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('are those of the PATH and of the packages’ folders', async () => {
    const found = await findPrograms('psql', { PATH: `/nonexistent:${join(folder, 'on-path')}` });
    expect(found).toContainEqual({ path: join(folder, 'on-path', 'psql'), major: 96, minor: 1, version: '96.1' });
  });

  test('are those of the one folder that PGARK_CLIENT_DIR names', async () => {
    const environment = { PATH: join(folder, 'on-path'), PGARK_CLIENT_DIR: join(folder, 'named') };
    expect(await findPrograms('psql', environment)).toEqual([
      { path: join(folder, 'named', 'psql'), major: 97, minor: 2, version: '97.2 (Some 97.2-1)' },
    ]);
    expect(await findPrograms('pg_dump', environment)).toEqual([]);
  });

  test('are also those of a folder that is named besides', async () => {
    const environment = { PGARK_CLIENT_DIR: join(folder, 'named') };
    const found = await findPrograms('psql', environment, join(folder, 'on-path'));
    expect(found.map(({ major }) => major)).toEqual([96, 97]);
  });

  test('are asked for their version once, and again after an upgrade; a link is no other copy', async () => {
    const [bin, link, calls] = [join(folder, 'counted'), join(folder, 'link'), join(folder, 'calls')];
    await mkdir(bin);
    await symlink(bin, link);
    const environment = { PATH: `${bin}:${link}` };
    const install = async (version: string): Promise<void> => {
      const script = `#!/bin/sh\necho >>'${calls}'\necho 'pg_dump (PostgreSQL) ${version}'\n`;
      await writeFile(join(bin, 'pg_dump'), script, { mode: 0o755 });
    };
    const ours = async (): Promise<string[]> =>
      (await findPrograms('pg_dump', environment)).filter(({ major }) => major > 90).map(({ version }) => version);
    await install('96.1');
    expect(await ours()).toEqual(['96.1']);
    expect(await ours()).toEqual(['96.1']);
    expect(await readFile(calls, 'utf8')).toBe('\n');
    await install('96.10');
    expect(await ours()).toEqual(['96.10']);
    expect(await readFile(calls, 'utf8')).toBe('\n\n');
  });

  test('do not count Debian’s wrapper where there is what it starts', async () => {
    const wrapped = join(folder, 'wrapped');
    await mkdir(wrapped);
    await writeFile(join(folder, 'pg_wrapper'), "#!/bin/sh\necho 'pg_dump (PostgreSQL) 98.1'\n", { mode: 0o755 });
    await symlink(join(folder, 'pg_wrapper'), join(wrapped, 'pg_dump'));
    const majorsOn = async (path: string): Promise<number[]> =>
      (await findPrograms('pg_dump', { PGARK_CLIENT_DIR: '', PATH: path })).map(({ major }) => major);
    expect(await majorsOn(`${join(folder, 'counted')}:${wrapped}`)).not.toContain(98);
  });

  test('are the usual ones where the variable is empty', async () => {
    const environment = { PATH: join(folder, 'on-path'), PGARK_CLIENT_DIR: '' };
    expect((await findPrograms('psql', environment)).map(({ major }) => major)).toContain(96);
  });
});
