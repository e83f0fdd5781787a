import { writeFile } from 'node:fs/promises';
import { type RunOptions, type RunResult, runPgark } from './cli.ts';
import type { Cluster } from './cluster.ts';
import { connectAt } from './superuser-session.ts';
import { makeTempDirectory } from './temp.ts';

/** A configuration of one server with all of its databases, and a storage in files. */
export interface ServerPlace extends AsyncDisposable {
  readonly storage: string;
  run(args: readonly string[], options?: Pick<RunOptions, 'signal'>): Promise<RunResult>;
  /** One that is to end so, with its result. */
  ends(exitCode: number, ...args: readonly string[]): Promise<RunResult>;
  /** The same, and the result as JSON. */
  json<T>(exitCode: number, ...args: readonly string[]): Promise<T>;
}

export async function serverPlace(
  server: Cluster,
  settings: Readonly<Record<string, unknown>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<ServerPlace> {
  const folder = await makeTempDirectory();
  const { databases = {}, ...others } = settings;
  const file = folder.join('pgark.yaml');
  await writeFile(
    file,
    JSON.stringify({
      version: 1,
      storages: { local: { type: 'file', path: folder.join('storage') } },
      databases: {
        main: {
          url: server.url,
          databases: ['*'],
          jobs: { dump: { format: 'directory', to: ['local'] } },
          ...(databases as object),
        },
      },
      ...others,
    }),
  );
  const run: ServerPlace['run'] = (args, options) => runPgark([...args, '--config', file], { env, ...options });
  const ends = async (exitCode: number, ...args: readonly string[]): Promise<RunResult> => {
    const result = await run(args);
    if (result.exitCode !== exitCode) {
      throw new Error(`pgark ${args.join(' ')} ended with ${result.exitCode}: ${result.stderr}`);
    }
    return result;
  };
  return {
    storage: folder.join('storage'),
    run,
    ends,
    json: async <T>(exitCode: number, ...args: readonly string[]) =>
      JSON.parse((await ends(exitCode, ...args, '-o', 'json')).stdout) as T,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Of the server, without a database. */
export function serverUrl(server: Cluster, user = 'postgres'): string {
  return `postgres://${user}:unused@127.0.0.1:${server.port}?sslmode=disable`;
}

/** In a database of the server. */
export async function sqlIn(server: Cluster, database: string, ...statements: readonly string[]): Promise<void> {
  const client = await connectAt(server.port, database);
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

/** The SQL text of roles and tablespaces, or of a database and what it is made with; without what differs from run to run. */
export async function dumped(server: Cluster, database?: string): Promise<string> {
  const at = ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres'];
  const text =
    database === undefined
      ? await server.run('pg_dumpall', ['--globals-only', ...at])
      : await server.run('pg_dump', [...at, '--create', '-d', database]);
  return text.replaceAll(/^\\(un)?restrict .*$/gm, '');
}
