import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { runPgark, runProgram } from './cli.ts';
import { postgresFacts } from './facts.ts';
import { createDatabase, createRole, runAsSuperuser } from './postgres.ts';
import { createBucket, createS3Client, createS3User } from './s3.ts';
import { expectNoSecrets, expectNoSecretsIn } from './secrets.ts';

describe('the PostgreSQL server of the tests', () => {
  test('a database with an awkward name can be reached by pg, by URL and by psql, and is gone afterwards', async () => {
    let name = '';
    {
      await using database = await createDatabase({ sql: 'CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)' });
      name = database.name;
      expect(name).toContain(`we"ird/na me-Ü'\\%`);
      expect(await database.query('SELECT id FROM t ORDER BY id')).toEqual([{ id: 1 }, { id: 2 }]);
      const byUrl = await runProgram('psql', ['-AtX', '-c', 'SELECT current_database()', database.url]);
      expect(byUrl).toMatchObject({ exitCode: 0, stdout: `${name}\n` });
      const byEnv = await runProgram('psql', ['-AtX', '-c', 'SELECT count(*) FROM t'], { env: database.env });
      expect(byEnv).toMatchObject({ exitCode: 0, stdout: '2\n' });
    }
    const left = await runAsSuperuser('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    expect(left).toEqual([]);
  });

  test('it wants the password', async () => {
    await using database = await createDatabase();
    const result = await runProgram('psql', ['-w', '-c', 'SELECT 1'], {
      env: { ...database.env, PGPASSWORD: 'wrong' },
    });
    expect(result.exitCode).toBe(2);
    expect(result.stderr).toContain('password authentication failed');
  });

  test('a role of its own owns a database and is no superuser', async () => {
    await using role = await createRole('NOINHERIT');
    await using database = await createDatabase({ owner: role });
    expect(await database.query(`SELECT current_user AS name, current_setting('is_superuser') AS super`)).toEqual([
      { name: role.user, super: 'off' },
    ]);
  });
});

describe('the S3 server of the tests', () => {
  test('a bucket holds, lists and removes objects', async () => {
    await using bucket = await createBucket();
    await bucket.put('a/1', 'one');
    await bucket.put('b/Ü 2', 'two');
    expect(await bucket.listKeys()).toEqual(['a/1', 'b/Ü 2']);
    expect(await bucket.listKeys('b/')).toEqual(['b/Ü 2']);
    expect((await bucket.get('b/Ü 2')).toString()).toBe('two');
    expect(await bucket.listOpenUploads()).toEqual([]);
  });

  test('it refuses a wrong secret key', async () => {
    await using bucket = await createBucket();
    const stranger = createS3Client({ accessKey: bucket.env['S3_ACCESS_KEY_ID'] ?? '', secretKey: 'wrong' });
    const put = stranger.send(new PutObjectCommand({ Bucket: bucket.name, Key: 'x', Body: 'x' }));
    await expect(put).rejects.toThrow(expect.objectContaining({ name: 'SignatureDoesNotMatch' }));
    stranger.destroy();
  });

  test('a user with read rights may read that bucket and change nothing', async () => {
    await using bucket = await createBucket();
    await bucket.put('kept', 'kept');
    const reader = createS3Client(await createS3User({ readOnlyBuckets: [bucket] }));
    const object = { Bucket: bucket.name, Key: 'kept' };
    await expect(reader.send(new GetObjectCommand(object))).resolves.toMatchObject({ ContentLength: 4 });
    const denied = expect.objectContaining({ name: 'AccessDenied' });
    await expect(reader.send(new PutObjectCommand({ ...object, Body: 'x' }))).rejects.toThrow(denied);
    await expect(reader.send(new DeleteObjectCommand(object))).rejects.toThrow(denied);
    reader.destroy();
  });

  test('a user without rights may not even read', async () => {
    await using bucket = await createBucket();
    await bucket.put('kept', 'kept');
    const nobody = createS3Client(await createS3User({ readOnlyBuckets: [] }));
    await expect(nobody.send(new GetObjectCommand({ Bucket: bucket.name, Key: 'kept' }))).rejects.toThrow(
      expect.objectContaining({ name: 'AccessDenied' }),
    );
    nobody.destroy();
  });
});

describe('the search for secrets in whatever pgark writes', () => {
  const env = {
    PGPASSWORD: 'hunter22222',
    DATABASE_URL: 'postgres://u:p%40ssw0rd-of-u@h/db',
    BACKUP_ENCRYPTION_KEY: 'age1qqqqqqqqqqqq',
    PGUSER: 'somebody-else',
  };

  test.each([
    ['a password', 'logged in with hunter22222', 'PGPASSWORD'],
    ['the password of a URL as it stands there', 'p%40ssw0rd-of-u', 'the password in DATABASE_URL'],
    ['the password of a URL as it is', 'p@ssw0rd-of-u', 'the password in DATABASE_URL'],
    ['the password of the tests’ own server', postgresFacts().password, 'TEST_SERVER_PASSWORD'],
  ])('finds %s', (_what, text, name) => {
    expect(() => expectNoSecrets(`so: ${text}.`, 'a log', env)).toThrow(`a secret shows in a log: ${name}`);
  });

  test('passes over what is no secret', () => {
    expect(() => expectNoSecrets('age1qqqqqqqqqqqq somebody-else', 'a log', env)).not.toThrow();
  });

  test('looks into the records of a storage, and not into backups', async () => {
    const files: Record<string, string> = {
      'x/.pgark/runs/2026-11/A.json': 'fine',
      'shop.sql': postgresFacts().password,
    };
    const storage = { keys: async () => Object.keys(files), get: async (key: string) => Buffer.from(files[key] ?? '') };
    await expectNoSecretsIn(storage);
    files['x/.pgark/logs/2026-11/A.log'] = postgresFacts().password;
    await expect(expectNoSecretsIn(storage)).rejects.toThrow('A.log');
  });
});

describe('running programs', () => {
  test('pgark starts from the checkout in an environment without settings', async () => {
    const result = await runPgark(['--version'], { ownProcess: true });
    expect(result).toMatchObject({ exitCode: 0, signal: null });
  });

  test('nothing of the environment of the tests leaks in', async () => {
    process.env['PGARK_LEAK'] = 'yes';
    const result = await runProgram('env', []);
    delete process.env['PGARK_LEAK'];
    expect(result.stdout).not.toContain('PGARK_LEAK');
  });

  test('input, exit status and a signal are passed on', async () => {
    const echoed = await runProgram('sh', ['-c', 'cat; exit 7'], { input: 'hello' });
    expect(echoed).toMatchObject({ exitCode: 7, stdout: 'hello' });
    const abort = new AbortController();
    const ended = await runProgram('sh', ['-c', 'echo ready >&2; exec sleep 600'], {
      signal: abort.signal,
      onStderr: () => abort.abort(),
    });
    expect(ended).toMatchObject({ exitCode: null, signal: 'SIGTERM' });
  });
});
