import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Client } from 'pg';
import { describe, expect, test } from 'vitest';
import { startThrowawayServer, type ThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { runProgram } from '../support/cli.ts';
import { makeTempDirectory } from '../support/temp.ts';

describe('a throwaway server', () => {
  test('listens on 127.0.0.1 with a password, and nothing is left of it when it is stopped', async () => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const server = await startThrowawayServer({ listen: 'tcp', directory: parent.path, settings: { work_mem: '7MB' } });
    const pid = await postmasterPid(parent.path);
    expect(server.host).toBe('127.0.0.1');
    expect(await ask(server.url().reveal(), 'SHOW work_mem')).toBe('7MB');
    const stranger = server.url().reveal().replace(server.password.reveal(), 'wrong');
    await expect(ask(stranger, 'SELECT 1')).rejects.toThrow('password authentication failed');

    await server.stop();
    expect(await readdir(parent.path)).toEqual([]);
    expect(await isRunning(pid)).toBe(false);
  });

  test('listens only in its private directory unless told otherwise', async () => {
    await using server = await startThrowawayServer();
    expect(await ask(server.url().reveal(), 'SHOW listen_addresses')).toBe('');
    expect(server.host.startsWith('/')).toBe(true);
    await expect(access(path.join(server.host, `.s.PGSQL.${server.port}`))).resolves.toBeUndefined();
  });

  test('gives its address for a database of any name', async () => {
    await using server = await startThrowawayServer();
    const name = `we"ird/na me-Ü'\\%`;
    await ask(server.url().reveal(), `CREATE DATABASE "${name.replaceAll('"', '""')}"`);
    const result = await runProgram('psql', ['-AtX', '-c', 'SELECT current_database()', server.url(name).reveal()]);
    expect(result).toMatchObject({ exitCode: 0, stdout: `${name}\n` });
  });

  test('does not print its password', async () => {
    await using server = await startThrowawayServer();
    expect(`${String(server.url())} ${JSON.stringify(server)}`).not.toContain(server.password.reveal());
  });

  test('stops while clients are connected and busy, and a second stop is nothing new', async () => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const server = await startThrowawayServer({ directory: parent.path });
    const client = await connect(server);
    const query = client.query('SELECT pg_sleep(600)');
    await Promise.all([expect(query).rejects.toThrow('terminating connection'), server.stop(), server.stop()]);
    await server.stop();
    expect(await readdir(parent.path)).toEqual([]);
  });

  test('stops although the server was killed before', async () => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const server = await startThrowawayServer({ directory: parent.path });
    process.kill(await postmasterPid(parent.path), 'SIGKILL');
    await server.stop();
    expect(await readdir(parent.path)).toEqual([]);
  });

  test('a start that is aborted leaves nothing behind', async () => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const abort = new AbortController();
    const starting = startThrowawayServer({ directory: parent.path, signal: abort.signal });
    await until(async () => (await readdir(parent.path)).length > 0);
    abort.abort(new Error('changed my mind'));
    await expect(starting).rejects.toThrow('changed my mind');
    expect(await readdir(parent.path)).toEqual([]);
  });

  test('a start that fails says it in the words of the server, and leaves nothing behind', async () => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const starting = startThrowawayServer({ directory: parent.path, settings: { shared_buffers: 'plenty' } });
    await expect(starting).rejects.toMatchObject({
      code: 'postgres-failed',
      message: expect.stringContaining('invalid value for parameter "shared_buffers"'),
    });
    expect(await readdir(parent.path)).toEqual([]);
  });

  test('a port that is taken is tried only so often', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => {
      taken.listen(0, '127.0.0.1', resolve);
    });
    const address = taken.address();
    const port = String(typeof address === 'object' ? address?.port : 0);
    const starting = startThrowawayServer({ listen: 'tcp', settings: { port } });
    await expect(starting).rejects.toThrow('could not bind IPv4 address "127.0.0.1": Address already in use');
    taken.close();
  });

  test('programs that are not there are an error that says what to install', async () => {
    await using empty = await makeTempDirectory();
    await expect(startThrowawayServer({ binDir: empty.path })).rejects.toMatchObject({ code: 'postgres-failed' });
  });
});

describe('when the process is gone, so is its server', () => {
  test.each(['SIGKILL', 'SIGTERM', 'SIGINT'] as const)('after %s', async (signal) => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const { child, line } = await startScript(`
      import { startThrowawayServer } from '${moduleUrl('throwaway-server.ts')}';
      await startThrowawayServer({ directory: ${JSON.stringify(parent.path)} });
      console.log('started');
      setInterval(() => {}, 1000);
    `);
    expect(line).toBe('started');
    const pid = await postmasterPid(parent.path);
    child.kill(signal);
    await until(async () => (await readdir(parent.path)).length === 0);
    await until(async () => !(await isRunning(pid)));
  });

  test('after a plain end without stop', async () => {
    await using parent = await makeTempDirectory();
    await opened(parent.path);
    const { child } = await startScript(`
      import { startThrowawayServer } from '${moduleUrl('throwaway-server.ts')}';
      await startThrowawayServer({ directory: ${JSON.stringify(parent.path)} });
      console.log('started');
    `);
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode).toBe(0);
    await until(async () => (await readdir(parent.path)).length === 0);
  });

  test('but a process that only has the number of a former server is left alone', async () => {
    await using parent = await makeTempDirectory();
    await using pidFiles = await makeTempDirectory();
    const bystander = spawn('sleep', ['600'], { stdio: 'ignore' });
    const pidFile = pidFiles.join('pid');
    await writeFile(pidFile, `${bystander.pid}\n`);
    await writeFile(parent.join('file'), 'content');
    await startScript(`
      import { startReaper } from '${moduleUrl('reaper.ts')}';
      await startReaper({ directory: ${JSON.stringify(parent.path)}, pidFiles: ['${pidFile}'], signal: 'KILL' });
      console.log('started');
    `);
    await until(async () => !(await exists(parent.path)));
    expect(await isRunning(bystander.pid ?? 0)).toBe(true);
    bystander.kill();
  });
});

/** The server runs as another user where we are root, who must be able to pass through. */
async function opened(directory: string): Promise<void> {
  await chmod(directory, 0o755);
}

async function connect(server: ThrowawayServer): Promise<Client> {
  const client = new Client({ connectionString: server.url().reveal() });
  client.on('error', () => {});
  await client.connect();
  return client;
}

/** The first value that a query gives. */
async function ask(url: string, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const result = await client.query<Record<string, unknown>>(sql);
    return Object.values(result.rows[0] ?? {})[0];
  } finally {
    await client.end();
  }
}

async function postmasterPid(parent: string): Promise<number> {
  const [directory = ''] = await readdir(parent);
  return Number.parseInt(await readFile(path.join(parent, directory, 'data', 'postmaster.pid'), 'utf8'), 10);
}

/** Not counting what has ended and only waits for its parent to notice (state Z of proc(5)). */
async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/\) Z/.test(stat);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

/** Looks again and again, for the end of something that tells nobody of its end. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 200_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('waited for 200 s in vain');
    await delay(20);
  }
}

function moduleUrl(file: string): string {
  return pathToFileURL(path.resolve(import.meta.dirname, '../../src/postgres/server', file)).href;
}

/** Runs a module in a process of its own, up to its first line of output. */
async function startScript(source: string): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) return { child, line };
  throw new Error('the script ended without a word');
}
