import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, readFile, writeFile } from 'node:fs/promises';
import { freePort } from '../../src/postgres/server/free-port.ts';
import { findServerAccount } from '../../src/postgres/server/server-programs.ts';
import { answers } from './answers.ts';
import { postgresFacts } from './facts.ts';
import { makeTempDirectory } from './temp.ts';

export interface PgBouncer extends AsyncDisposable {
  readonly port: number;
}

/** A real PgBouncer before the tests' server, with the superuser's password; further lines go into its [pgbouncer]. */
export async function startPgBouncer(
  mode: 'session' | 'transaction' | 'statement',
  settings: Readonly<Record<string, string>> = {},
): Promise<PgBouncer> {
  const { host, port: serverPort, user, password } = postgresFacts();
  const directory = await makeTempDirectory();
  const port = await freePort();
  const files = { users: directory.join('users.txt'), config: directory.join('pgbouncer.ini') };
  const lines = {
    listen_addr: '127.0.0.1',
    listen_port: String(port),
    unix_socket_dir: '',
    auth_type: 'scram-sha-256',
    auth_file: files.users,
    logfile: directory.join('log'),
    pidfile: directory.join('pid'),
    pool_mode: mode,
    ...settings,
  };
  const text = Object.entries(lines).map(([name, value]) => `${name} = ${value}\n`);
  await writeFile(files.users, `"${user}" "${password}"\n`);
  await writeFile(files.config, `[databases]\n* = host=${host} port=${serverPort}\n[pgbouncer]\n${text.join('')}`);
  // It does not run as root.
  const account = await findServerAccount();
  if (account !== undefined) {
    await chown(directory.path, account.uid, account.gid);
    await chmod(directory.path, 0o755);
  }
  const child = spawn('pgbouncer', [files.config], {
    ...account,
    cwd: directory.path,
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin` },
    stdio: 'ignore',
  });
  const failure = once(child, 'error').then(([error]: unknown[]) => error);
  const closed = once(child, 'close');
  closed.catch(() => {});
  try {
    await Promise.race([answers(port), failure.then((error) => Promise.reject(error))]);
  } catch (error) {
    child.kill('SIGKILL');
    const log = await readFile(directory.join('log'), 'utf8').catch(() => '(no log)');
    await directory[Symbol.asyncDispose]();
    throw new Error(`PgBouncer does not start: ${log}`, { cause: error });
  }
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await closed;
      await directory[Symbol.asyncDispose]();
    },
  };
}
