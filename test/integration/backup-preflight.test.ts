import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer as createWebServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import {
  expectExit,
  expectFailure,
  expectUntouched,
  fileStorage,
  s3Storage,
  untilActivity,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { s3Facts } from '../support/facts.ts';
import { createDatabase, createRole, type Login } from '../support/postgres.ts';
import { createBucket, createS3User } from '../support/s3.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

describe.concurrent('a database that cannot be reached as it is said', () => {
  test.each([
    {
      name: 'a wrong password',
      url: () => urlOf('postgres', { password: 'not-the-password' }),
      message: /refuses user postgres: password authentication failed/,
      hint: /check user and password/,
    },
    {
      name: 'a database that is not there',
      url: () => urlOf('no/such "database'),
      message: /has no database "no\/such "database"/,
      hint: /case-sensitive/,
    },
    {
      name: 'a port where nobody listens',
      url: () => urlOf('postgres', { port: 1 }),
      message: /cannot reach PostgreSQL at 127\.0\.0\.1:1: .*ECONNREFUSED/,
      hint: /check host, port/,
    },
    {
      name: 'a host that is not there',
      url: () => urlOf('postgres', { host: 'db.invalid' }),
      message: /cannot reach PostgreSQL at db\.invalid:\d+: .*ENOTFOUND/,
      hint: /check host, port/,
    },
  ])('$name', async ({ url, message, hint }) => {
    await using storage = await fileStorage();
    const result = await runPgark(['backup'], { env: { ...storage.env, DATABASE_URL: url() } });
    expectFailure(result, { exit: 1, message, hint });
    expect(result.stderr).not.toContain('not-the-password');
    expect(await storage.keys()).toEqual([]);
  });
});

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** Answers everything with the page of some web application. */
async function webServer(): Promise<AsyncDisposable & { readonly endpoint: string }> {
  const server = createWebServer((request, response) => {
    request.resume();
    response.setHeader('content-type', 'text/html').end('<!doctype html><html><body>Welcome</body></html>');
  });
  const port = await listening(server);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A server with a certificate that nobody knows. */
async function tlsServer(): Promise<AsyncDisposable & { readonly endpoint: string }> {
  await using directory = await makeTempDirectory();
  const [key, cert] = [directory.join('key.pem'), directory.join('cert.pem')];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ed25519',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
    ],
    { stdio: 'ignore' },
  );
  const server = createTlsServer({ key: await readFile(key), cert: await readFile(cert) }, (_request, response) =>
    response.end(),
  );
  const port = await listening(server);
  return {
    endpoint: `https://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

describe.concurrent('a bucket that cannot be used as it is said', () => {
  test.each([
    {
      name: 'a wrong secret key',
      env: { S3_SECRET_ACCESS_KEY: 'not-the-secret-key' },
      exit: 3,
      message: /SignatureDoesNotMatch/,
      hint: /the secret key does not fit the access key/,
    },
    {
      name: 'an unknown access key',
      env: { S3_ACCESS_KEY_ID: 'NOBODYKNOWSTHISKEY' },
      exit: 3,
      message: /InvalidAccessKeyId/,
      hint: /does not know this access key/,
    },
    {
      name: 'a bucket that is not there',
      env: { S3_BUCKET: 'pgark-no-such-bucket' },
      exit: 3,
      message: /bucket pgark-no-such-bucket does not exist at 127\.0\.0\.1/,
      hint: /create the bucket, or correct its name/,
    },
    {
      name: 'a port where nobody listens',
      env: { S3_ENDPOINT: 'http://127.0.0.1:1' },
      exit: 1,
      message: /at 127\.0\.0\.1:1 failed: .*ECONNREFUSED/,
      hint: /check the endpoint/,
    },
    {
      name: 'https where the store speaks http',
      env: () => ({ S3_ENDPOINT: s3Facts().endpoint.replace('http:', 'https:') }),
      exit: 1,
      message: /does not answer with TLS \((EPROTO|ERR_SSL_\w+)\)$/,
      hint: /write the endpoint with http:\/\//,
    },
  ])('$name', async ({ env, exit, message, hint }) => {
    await using database = await createDatabase();
    await using storage = await s3Storage();
    const settings = { ...storage.env, ...(typeof env === 'function' ? env() : env), DATABASE_URL: database.url };
    const result = await runPgark(['backup'], { env: settings });
    expectFailure(result, { exit, message, hint });
    expect(result.stderr).not.toContain(storage.env['S3_SECRET_ACCESS_KEY']);
    expect(result.stderr).not.toContain('not-the-secret-key');
    expect(await storage.keys()).toEqual([]);
    await expectUntouched(storage, []);
  });

  test.each([['backup'], ['list'], ['verify']])(
    'an endpoint that is a web site, which agrees to everything: %s',
    async (verb) => {
      await using web = await webServer();
      await using database = await createDatabase();
      const bucket = {
        S3_ENDPOINT: web.endpoint,
        S3_BUCKET: 'some-bucket',
        S3_ACCESS_KEY_ID: 'k',
        S3_SECRET_ACCESS_KEY: 's',
      };
      const result = await runPgark([verb], { env: { ...bucket, DATABASE_URL: database.url, RETRY_DELAY: '10ms' } });
      expectFailure(result, {
        exit: 3,
        message: /what answers at 127\.0\.0\.1:\d+ is no S3 store/,
        hint: /the store’s S3 API as the endpoint, not that of its web console/,
      });
    },
  );

  test('an endpoint whose certificate nobody vouches for', async () => {
    await using server = await tlsServer();
    await using database = await createDatabase();
    const bucket = {
      S3_ENDPOINT: server.endpoint,
      S3_BUCKET: 'some-bucket',
      S3_ACCESS_KEY_ID: 'k',
      S3_SECRET_ACCESS_KEY: 's',
    };
    const result = await runPgark(['backup'], { env: { ...bucket, DATABASE_URL: database.url, RETRY_DELAY: '10ms' } });
    expectFailure(result, {
      exit: 1,
      message: /the certificate of 127\.0\.0\.1:\d+ is not trusted/,
      hint: /give the certificate authority of the store as a PEM file/,
    });
    // It does not mend itself, so that trying again is no use.
    expect(result.stderr).not.toContain('trying again');
  });

  test('a user who may only read, and one who has no rights at all', async () => {
    await using database = await createDatabase();
    await using bucket = await createBucket();
    const run = async (login: { accessKey: string; secretKey: string }) =>
      runPgark(['backup'], {
        env: {
          ...bucket.env,
          S3_ACCESS_KEY_ID: login.accessKey,
          S3_SECRET_ACCESS_KEY: login.secretKey,
          DATABASE_URL: database.url,
        },
      });
    const reader = await run(await createS3User({ readOnlyBuckets: [bucket] }));
    expectFailure(reader, {
      exit: 3,
      message: /^s3:PutObject on postgres-backups\/.* is not allowed: AccessDenied \(403\)$/,
      hint: new RegExp(`^grant s3:PutObject on arn:aws:s3:::${bucket.name}/postgres-backups/\\*$`),
    });
    // Nothing was written, so there is nothing to warn of either.
    expect(reader.stderr.match(/\n/g)).toHaveLength(2);
    expectFailure(await run(await createS3User({ readOnlyBuckets: [] })), {
      exit: 3,
      message: new RegExp(`s3:ListBucket on bucket ${bucket.name} .* is not allowed`),
      hint: /grant s3:ListBucket on arn:aws:s3:::/,
    });
    expect(await bucket.listKeys()).toEqual([]);
    expect(await bucket.listOpenUploads()).toEqual([]);
  });
});

describe.concurrent('a role that may not read everything is told before anything is dumped', () => {
  /** A role of its own that may read the public schema's table `a`, and a backup as it. */
  async function backUpAs(
    sql: (role: string) => string,
    attributes = '',
  ): Promise<AsyncDisposable & { result: Awaited<ReturnType<typeof runPgark>>; keys: string[]; role: Login }> {
    const stack = new AsyncDisposableStack();
    const role = stack.use(await createRole(attributes));
    const database = stack.use(await createDatabase({ sql: 'CREATE TABLE a AS SELECT generate_series(1, 10) AS n' }));
    const name = escapeIdentifier(role.user);
    await database.query(`GRANT SELECT ON a TO ${name}; ${sql(name)}`);
    const storage = stack.use(await fileStorage());
    const result = await runPgark(['backup'], { env: { ...storage.env, DATABASE_URL: urlOf(database.name, role) } });
    return { result, role, keys: await storage.keys(), [Symbol.asyncDispose]: () => stack.disposeAsync() };
  }

  test.each([
    {
      name: 'one table',
      sql: () => 'CREATE TABLE "Other one" (x int)',
      message: /may not read 1 table or sequence: public\."Other one"$/,
      hint: /GRANT pg_read_all_data TO "role ""Ü"" \w+" /,
    },
    {
      name: 'one sequence',
      sql: () => 'CREATE SEQUENCE s',
      message: /may not read 1 table or sequence: public\.s$/,
      hint: /GRANT pg_read_all_data TO/,
    },
    {
      name: 'a schema, although the table in it is granted',
      sql: (role: string) => `CREATE SCHEMA inner_schema; CREATE TABLE inner_schema.t (x int);
        GRANT SELECT ON ALL TABLES IN SCHEMA inner_schema TO ${role}`,
      message: /may not read 1 table or sequence: inner_schema\.t$/,
      hint: /USAGE and SELECT on each schema/,
    },
    {
      name: 'large objects, although pg_read_all_data is granted',
      sql: (
        role: string,
      ) => `GRANT pg_read_all_data TO ${role}; SELECT lo_create(oid) FROM generate_series(41, 43) AS oid;
        GRANT SELECT ON LARGE OBJECT 42 TO ${role}`,
      message: /may not read 2 large objects: 41 and others$/,
      hint: /GRANT SELECT ON LARGE OBJECT 41 TO "role ""Ü"" \w+", /,
    },
    {
      name: 'rows that row-level security hides',
      sql: (role: string) => `ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a TO ${role} USING (n < 5)`,
      message: /row-level security would hide rows from role "role ""Ü"" \w+" in 1 table: public\.a$/,
      hint: /ALTER ROLE "role ""Ü"" \w+" BYPASSRLS/,
    },
    {
      name: 'rows that forced row-level security hides from their owner',
      sql: (role: string) =>
        `ALTER TABLE a OWNER TO ${role}; ALTER TABLE a ENABLE ROW LEVEL SECURITY; ALTER TABLE a FORCE ROW LEVEL SECURITY`,
      message: /row-level security would hide rows .* public\.a$/,
      hint: /BYPASSRLS/,
    },
  ])('$name', async ({ sql, message, hint }) => {
    await using attempt = await backUpAs(sql);
    expectFailure(attempt.result, { exit: 1, message, hint });
    // Not one write, not even of the run's record.
    expect(attempt.keys).toEqual([]);
    // What the hint says can be run as it is.
    expect(attempt.result.stderr).not.toContain(attempt.role.password);
  });

  test('row-level security that is switched on after the check ends the dump, which would hold fewer rows', async () => {
    await using role = await createRole();
    await using database = await createDatabase({ sql: 'CREATE TABLE a AS SELECT generate_series(1, 10) AS n' });
    await using storage = await fileStorage();
    const name = escapeIdentifier(role.user);
    await database.query(`GRANT SELECT ON a TO ${name}; CREATE POLICY p ON a TO ${name} USING (n < 5)`);
    const other = await database.connect();
    await other.query('BEGIN; ALTER TABLE a ENABLE ROW LEVEL SECURITY');
    const run = runPgark(['backup'], { env: { ...storage.env, DATABASE_URL: urlOf(database.name, role) } });
    // The check has seen the table as it was; pg_dump waits for its lock.
    await untilActivity(database, `application_name LIKE 'pgark backup %' AND wait_event_type = 'Lock'`);
    await other.query('COMMIT');
    await other.end();
    expectFailure(await run, { exit: 1, message: /row-level security policy for table "a"/, hint: /BYPASSRLS/ });
    await expectUntouched(storage, []);
  });

  test('the doctor says so too, after it has told of the connection', async () => {
    await using role = await createRole('IN ROLE pg_read_all_data');
    await using database = await createDatabase({ sql: 'SELECT lo_create(41)' });
    await using storage = await fileStorage();
    const env = { ...storage.env, DATABASE_URL: urlOf(database.name, role) };
    const result = await runPgark(['doctor', '-o', 'json'], { env });
    expectExit(result, 1);
    const { findings } = JSON.parse(result.stdout) as { readonly findings: readonly { readonly subject: string }[] };
    const subjects = findings.map(({ subject }) => subject.split(' ')[0]);
    expect(subjects.indexOf('privileges')).toBe(subjects.indexOf('connection') + 1);
    expect(findings).toContainEqual(
      expect.objectContaining({
        state: 'failed',
        error: expect.objectContaining({
          code: 'postgres-privileges',
          hint: expect.stringContaining('LARGE OBJECT 41'),
        }),
      }),
    );
  });

  test('large objects that are granted, to all or to a role of the role, or its own, are no hindrance', async () => {
    await using attempt = await backUpAs(
      (role) => `SELECT lo_create(oid) FROM generate_series(1, 4) AS oid;
        GRANT SELECT ON LARGE OBJECT 1 TO ${role}; GRANT SELECT ON LARGE OBJECT 2 TO PUBLIC;
        ALTER LARGE OBJECT 3 OWNER TO ${role}; GRANT SELECT ON LARGE OBJECT 4 TO pg_monitor; GRANT pg_monitor TO ${role}`,
    );
    expectExit(attempt.result, 0);
  });

  test('with BYPASSRLS every row is in the backup', async () => {
    await using attempt = await backUpAs(
      (role) => `ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a TO ${role} USING (n < 5)`,
      'BYPASSRLS',
    );
    expectExit(attempt.result, 0);
  });
});
