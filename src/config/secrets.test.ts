import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeConfig } from './describe.ts';
import { environmentNames } from './environment-names.ts';
import { loadConfig } from './load.ts';

const MARK = 'xyzzyplugh';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgark-config-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** All that anybody could print of an outcome: the configuration, its description, or the error with its causes. */
async function everythingPrinted(env: Record<string, string>, file?: string): Promise<string> {
  try {
    const config = await loadConfig({ env, cwd: dir, ...(file !== undefined && { file }) });
    return [
      inspect(config, { depth: 20, showHidden: true }),
      JSON.stringify(config),
      JSON.stringify(describeConfig(config)),
    ].join('\n');
  } catch (error) {
    const { message, hint, details } = error as { message: string; hint: string; details: unknown };
    return [
      inspect(error, { depth: 20, showHidden: true }),
      message,
      hint,
      JSON.stringify(details),
      JSON.stringify(error),
    ].join('\n');
  }
}

const secretNames = [
  'DATABASE_URL',
  'POSTGRES_CONNECTION_STRING',
  'POSTGRES_PASSWORD',
  'PGPASSWORD',
  'PG_PASSWORD',
  'S3_ACCESS_KEY_ID',
  'S3_SECRET_ACCESS_KEY',
  'S3_ACCESS_KEY',
  'S3_SECRET_KEY',
  'RCLONE_S3_ACCESS_KEY_ID',
  'RCLONE_S3_SECRET_ACCESS_KEY',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'BACKUP_ENCRYPTION_KEY',
  'WEBHOOK_URL',
];

describe('secrets of the environment', () => {
  test('are in no output of a configuration that holds all of them', async () => {
    await writeFile(join(dir, 'session'), MARK);
    const printed = await everythingPrinted({
      DATABASE_URL: `postgres://app:${MARK}@db/shop`,
      PGPASSWORD: MARK,
      BUCKET_NAME: 'backups',
      AWS_ACCESS_KEY_ID: MARK,
      AWS_SECRET_ACCESS_KEY_FILE: 'session',
      AWS_SESSION_TOKEN: MARK,
      BACKUP_ENCRYPTION_KEY: MARK.repeat(4),
      WEBHOOK_URL: `https://hooks.slack.com/services/${MARK}`,
    });
    expect(printed).toContain('"databases.shop.connection.password","value":"[redacted]"');
    expect(printed).toContain('"storages.default.credentials.session_token","value":"[redacted]"');
    expect(printed).not.toContain(MARK);
  });

  test('are in no output of any environment, right or wrong', async () => {
    const secret = fc.constantFrom(
      MARK,
      MARK.repeat(4),
      `postgres://u:${MARK}@h/d`,
      `postgres://u:${MARK}@h/e?sslmode=x`,
      `postgres://u:a/${MARK}@h/d`,
      `postgres://u:a@${MARK}@h/d`,
      `postgres://u:%${MARK}@h/d`,
      `postgres://u:1/${MARK}?${MARK}=1@h/d`,
      `postgres://:${MARK}@h:x/d?nothing=1`,
      `https://${MARK}.example/x`,
      `${MARK}\n${MARK}`,
      `AGE-SECRET-KEY-1${MARK}`,
      `age1${MARK}`,
      `ssh-rsa ${MARK}`,
    );
    const other = fc.constantFrom(
      'x',
      'h',
      '5',
      '61 * * * *',
      'true',
      'age',
      'openssl',
      'none',
      'https://s3.lan',
      's3://b/p',
      '5432',
      'a b',
    );
    const plainNames = environmentNames
      .map(({ name }) => name)
      .filter((name) => !secretNames.includes(name) && name !== 'PGARK_CONFIG');
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.constantFrom(...secretNames), secret),
        fc.dictionary(fc.constantFrom(...plainNames), other, { maxKeys: 8 }),
        async (secrets, others) => {
          expect((await everythingPrinted({ ...secrets, ...others })).toLowerCase()).not.toContain(MARK);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});

/** The mark wherever the file may hold a secret. */
const yaml = `version: 1
server: { auth: { mode: oidc, oidc: { issuer: https://id.lan, client_id: c, client_secret: ${MARK} } } }
storages:
  s: { type: s3, bucket: backups, access_key_id: ${MARK}, secret_access_key: ${MARK}, session_token: ${MARK} }
encryption:
  o: { type: openssl, passphrase: ${MARK.repeat(4)} }
  a: { type: age, passphrase: ${MARK} }
notifications:
  slack: { type: slack, url: https://hooks.slack.com/${MARK} }
  hook: { type: webhook, url: https://ci.lan/${MARK}, secret: ${MARK} }
  ntfy: { type: ntfy, url: https://ntfy.lan/${MARK}, token: ${MARK} }
  hc: { type: healthchecks, url: https://hc.lan/${MARK} }
  telegram: { type: telegram, token: ${MARK}, chat: c }
  mail: { type: email, smtp: "smtps://u:${MARK}@mail.lan", to: [a@b.lan] }
  mail2: { type: email, smtp: "smtps://u@mail.lan", password: ${MARK}, to: [a@b.lan] }
databases:
  a: { url: "postgres://u:${MARK}@h/d" }
  b: { host: h, user: u, database: d, password: ${MARK} }
`;

describe('secrets of the file', () => {
  const printed = async (text: string, env: Record<string, string> = {}): Promise<string> => {
    await writeFile(join(dir, 'pgark.yaml'), text);
    return everythingPrinted(env, 'pgark.yaml');
  };

  test('are in no output of a configuration that holds all of them', async () => {
    const text = await printed(yaml);
    for (const path of [
      'server.auth.client_secret',
      'notifications.mail.smtp.password',
      'notifications.slack.url',
      'databases.b.connection.password',
    ]) {
      expect(text).toContain(`"${path}","value":"[redacted]"`);
    }
    expect(text).not.toContain(MARK);
  });

  test('are not shown where they are arguments of a program, or in an address’s query, whoever writes them there', async () => {
    const hook = (...run: string[]): string => `{ run: ${JSON.stringify(run)} }`;
    const hooked = (secret: string): string => `version: 1
storages: { s: { type: file, path: "/backups/\${SITE}" } }
traces: { url: "https://traces.lan/v1?key=${secret}" }
databases:
  a:
    host: "\${HOST}"
    user: u
    database: d
    jobs: { n: { format: plain } }
    hooks:
      before_backup: [${hook('true')}, ${hook('curl', '-H', `Authorization: Bearer ${secret}`)}]
    drill: { schedule: "@daily", assertions: [{ sql: "select \${MARK}" }] }
`;
    const env = { MARK, SITE: 'lab', HOST: 'db.lan' };
    for (const secret of [MARK, '${MARK}']) {
      await writeFile(join(dir, 'pgark.yaml'), hooked(secret));
      const config = await loadConfig({ env, cwd: dir, file: 'pgark.yaml' });
      const rows = Object.fromEntries(describeConfig(config).map(({ path, value }) => [path, value]));
      expect(JSON.stringify(rows)).not.toContain(MARK);
      expect(rows).toMatchObject({
        'databases.a.hooks.before_backup.0.run': 'true',
        'databases.a.hooks.before_backup.1.run': 'curl with 2 arguments',
        'databases.a.drill.assertions.0.sql': 'select ${MARK}',
        'traces.url': 'https://traces.lan/v1?[redacted]',
        // Where to look for backups, and of which server.
        'storages.s.path': '/backups/lab',
        'databases.a.connection.host': 'db.lan',
      });
    }
  });

  test('are in no error, wherever the file is cut off', async () => {
    for (let end = 0; end < yaml.length; end += 3) expect(await printed(yaml.slice(0, end))).not.toContain(MARK);
  });

  test.each([
    `"${MARK}\\q"`,
    `'${MARK}`,
    `"${MARK}`,
    `@${MARK}`,
    `*${MARK}`,
    `!${MARK} x`,
    `[${MARK}]`,
    `{ ${MARK} }`,
    `${MARK}: x`,
    `|9\n${MARK}`,
    `"\${${MARK}"`,
    `%${MARK}`,
  ])('are in no error of a line such as passphrase: %s', async (value) => {
    const text = await printed(`version: 1\nencryption:\n  o:\n    type: openssl\n    passphrase: ${value}\n`);
    expect(text).toMatch(/config-|key-/);
    expect(text).not.toContain(`"${MARK}`);
    expect(text.replaceAll(`passphrase.${MARK}`, '')).not.toContain(MARK);
  });

  test('that come from variables are in no output either', async () => {
    const text = yaml.replaceAll(MARK, '${MARK}').replaceAll(': ${MARK}', ': "${MARK}"');
    expect(await printed(text, { MARK })).not.toContain(MARK);
  });
});
