import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { differingSettings } from './compare-configs.ts';
import { environmentAsFile } from './environment-as-file.ts';
import { configJsonSchemaText } from './json-schema.ts';
import { loadConfig } from './load.ts';

type Env = Readonly<Record<string, string>>;

let dir: string;
let pair: { readonly identity: string; readonly recipient: string };
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgark-config-'));
  await mkdir(join(dir, 'etc'));
  const identity = await generateX25519Identity();
  pair = { identity, recipient: await identityToRecipient(identity) };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const schema = z.fromJSONSchema(JSON.parse(configJsonSchemaText()) as Parameters<typeof z.fromJSONSchema>[0]);
const HIDDEN = 'hidden-0123456789-0123456789-0123456789';

/** What is awkward in YAML, in JavaScript or in references to variables. */
const word = fc.oneof(
  fc.constantFrom(
    'shop',
    'true',
    '1',
    'null',
    '~',
    '__proto__',
    '#a',
    'a: b',
    '${HOME}',
    '$${x',
    "it's",
    '"',
    '- a',
    ' ',
  ),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((text) => !text.includes('\0')),
);
const secret = word.map((text) => `${HIDDEN}${text}`);

/** Few of them: the more are said, the sooner two of them do not fit together. */
function some(names: Readonly<Record<string, fc.Arbitrary<string>>>): fc.Arbitrary<Env> {
  const each = Object.entries(names).map(([name, value]) =>
    fc.oneof(
      { weight: 3, arbitrary: fc.constant<Env>({}) },
      { weight: 1, arbitrary: value.map((text): Env => ({ [name]: text })) },
    ),
  );
  return fc.tuple(...each).map((parts) => Object.assign({}, ...parts) as Env);
}

const url = (name: string): fc.Arbitrary<Env> =>
  fc
    .record({
      database: word.map(encodeURIComponent),
      password: fc.option(secret.map(encodeURIComponent)),
      more: fc.constantFrom('', '?sslmode=require', '?sslrootcert=/etc/ca.pem'),
    })
    .map(({ database, password, more }) => ({
      [name]: `postgres://app${password === null ? '' : `:${password}`}@db.example.org/${database}${more}`,
    }));

const database: fc.Arbitrary<Env> = fc.oneof(
  url('DATABASE_URL'),
  url('POSTGRES_CONNECTION_STRING'),
  fc.record({
    POSTGRES_HOST: fc.constantFrom('db', '/var/run/postgresql', '10.0.0.1'),
    POSTGRES_USER: word,
    POSTGRES_PASSWORD: secret,
    POSTGRES_DB: word,
    POSTGRES_PORT: fc.constantFrom('5432', '5433'),
  }),
  fc.record({ PGHOST: fc.constant('db'), PGUSER: word, PGDATABASE: word, PGPASSWORD: secret }),
);

const storage: fc.Arbitrary<Env> = fc.oneof(
  some({
    BACKUP_STORAGE: fc.constantFrom('file:./backups', 'file:///srv/b%20c', 'rclone:drive:pg', 's3://bucket/p'),
    BACKUP_PREFIX: word,
  }),
  fc.record(
    {
      S3_BUCKET: fc.constantFrom('bucket', 'other-bucket'),
      S3_ACCESS_KEY_ID: secret,
      S3_SECRET_ACCESS_KEY: secret,
      S3_ENDPOINT: fc.constantFrom('https://s3.example.org', 's3.example.org:9000'),
      S3_REGION: fc.constantFrom('eu-central-1', 'auto'),
      BACKUP_PREFIX: fc.constantFrom('/', 'a/b', 'prod'),
    },
    { requiredKeys: ['S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY'] },
  ),
  fc.record({
    S3_URL: fc.constant('https://s3.example.org'),
    S3_PATH: fc.constant('bucket/p'),
    S3_ACCESS_KEY: secret,
    S3_SECRET_KEY: secret,
  }),
  fc.record({
    BUCKET_NAME: fc.constant('bucket'),
    AWS_ACCESS_KEY_ID: secret,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_REGION: fc.constant('eu-west-1'),
  }),
);

const rest: fc.Arbitrary<Env> = some({
  BACKUP_NAME: word,
  BACKUP_SCHEDULE: fc.constantFrom('0 2 * * *', '@daily', '6h', ' 5 4 * * 0 '),
  BACKUP_FORMAT: fc.constantFrom('plain', 'directory', 'PHYSICAL'),
  BACKUP_FILENAME: fc.constantFrom('{database}_{id}', '{database}/${x}_{id}'),
  BACKUP_GLOBALS: fc.constantFrom('auto', 'none', 'no-passwords'),
  BACKUP_COMPRESSION: fc.constantFrom('gzip', 'zstd', 'none'),
  COMPRESSION_LEVEL: fc.constantFrom('1', '9', '19', '007'),
  BACKUP_JOBS: fc.constantFrom('1', '08'),
  BACKUP_RETENTION_DAYS: fc.constantFrom('1', '30', 'forever', 'never'),
  BACKUP_LEASE_TERM: fc.constantFrom('90', '2m'),
  RETRY_ATTEMPTS: fc.constantFrom('0', '7'),
  RETRY_DELAY: fc.constantFrom('1', '2s'),
  BACKUP_ENCRYPTION: fc.constantFrom('none', 'age', 'openssl', 'true'),
  BACKUP_ENCRYPTION_KEY: fc.oneof(
    fc.constantFrom('RECIPIENT', 'IDENTITY', 'COMMENTED'),
    fc.constant(`${HIDDEN}\${HOME}`),
  ),
  WEBHOOK_URL: fc.constantFrom(`https://hooks.example.org/${HIDDEN}`, `https://hooks.slack.com/services/${HIDDEN}`),
  WEBHOOK_ON_SUCCESS: fc.constantFrom('true', 'false'),
  PGSSLROOTCERT: fc.constantFrom('system', 'ca.pem', '/etc/ca.pem'),
  PGPASSFILE: fc.constant('pass'),
  RCLONE_CONFIG: fc.constant('rclone.conf'),
  TZ: fc.constantFrom('Europe/Vienna', 'UTC'),
  PGARK_LISTEN: fc.constantFrom('0.0.0.0:9090', ':8081'),
  LOG_LEVEL: fc.constantFrom('debug', 'WARN'),
  OTEL_EXPORTER_OTLP_ENDPOINT: fc.constant('http://collector:4318'),
});

/** Some of the variables come from files. */
const environment = fc.tuple(database, storage, rest, fc.array(fc.nat(), { maxLength: 4 })).map(([...parts]) => ({
  env: Object.assign({}, ...parts.slice(0, 3)) as Env,
  inFiles: parts[3] as readonly number[],
}));

async function withFiles(env: Env, inFiles: readonly number[]): Promise<Env> {
  const entries = Object.entries(env).map(([name, value]): [string, string] => [
    name,
    value === 'RECIPIENT'
      ? pair.recipient
      : value === 'IDENTITY'
        ? pair.identity
        : value === 'COMMENTED'
          ? `# public key: ${pair.recipient}\n${pair.identity}`
          : value,
  ]);
  for (const number of inFiles) {
    const entry = entries[number % entries.length];
    if (entry === undefined || /_FILE$|^(TZ|OTEL)/.test(entry[0])) continue;
    await writeFile(join(dir, `${entry[0]}.txt`), `${entry[1]}\n`);
    entry[1] = `${entry[0]}.txt`;
    entry[0] = `${entry[0]}_FILE`;
  }
  return Object.fromEntries(entries);
}

describe('a file made of the environment', () => {
  test.each(['.', 'etc'])('in folder %s means the same as the environment, and holds no secret', async (folder) => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(environment, async ({ env: plain, inFiles }) => {
        const env = await withFiles(plain, inFiles);
        const before = await loadConfig({ env, cwd: dir }).catch((error: unknown) => ({ error }));
        const made = await environmentAsFile(env, { cwd: dir, folder: join(dir, folder) }).catch((error: unknown) => ({
          error,
        }));
        if ('error' in before || 'error' in made) {
          // What is no configuration is none as a file either, and for the same reason.
          expect(made).toEqual(before);
          return;
        }
        compared += 1;
        expect(made.text).not.toContain(HIDDEN);
        expect(made.text).not.toContain(pair.identity);
        const file = join(dir, folder, 'pgark.yaml');
        await writeFile(file, made.text);
        const after = await loadConfig({ file, env, cwd: dir });
        expect(differingSettings(before, after)).toEqual([]);
        for (const variable of made.variables) expect(env).toHaveProperty(variable);
        // As an editor sees it, which knows nothing of variables.
        expect(schema.safeParse(parse(made.text)).error?.issues).toBe(undefined);
      }),
      { numRuns: 100 },
    );
    expect(compared).toBeGreaterThan(30);
  });

  test('differs where anything differs, secret or not', async () => {
    const env = { DATABASE_URL: 'postgres://app:one@db/shop', BACKUP_ENCRYPTION_KEY: HIDDEN };
    const one = await loadConfig({ env, cwd: dir });
    expect(differingSettings(one, await loadConfig({ env, cwd: dir }))).toEqual([]);
    const other = { ...env, DATABASE_URL: 'postgres://app:other@db/shop', BACKUP_RETENTION_DAYS: 'forever' };
    expect(differingSettings(one, await loadConfig({ env: other, cwd: dir }))).toEqual([
      'databases.shop.connection.password',
      'databases.shop.jobs.backup.retention',
      'databases.shop.jobs.backup.retention.name',
      'databases.shop.jobs.backup.retention.keep',
      'databases.shop.jobs.backup.retention.keep.withinMs',
      'databases.shop.jobs.backup.retention.minBackups',
      'retention.default',
      'retention.default.name',
      'retention.default.keep',
      'retention.default.keep.withinMs',
      'retention.default.minBackups',
    ]);
  });
});
