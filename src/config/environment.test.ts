import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PgarkError } from '../common/errors.ts';
import { environmentNames } from './environment-names.ts';
import { loadConfig } from './load.ts';
import type { Config, EncryptionConfig, JobConfig } from './model.ts';

type Env = Record<string, string>;
const database = { DATABASE_URL: 'postgres://app@db/shop' };

const load = (env: Env): Promise<Config> => loadConfig({ env: { ...database, ...env }, cwd: '/srv' });
const failure = (env: Env): Promise<unknown> => load(env).catch((reason: unknown) => reason);

async function job(env: Env): Promise<JobConfig> {
  const config = await load(env);
  const found = config.databases.get('shop')?.jobs.get('backup');
  if (found === undefined) throw new Error('there is no job');
  return found;
}

describe('the job by environment names', () => {
  test('without any name: plain, gzip 6, every midnight UTC, 7 days and at least 3 backups', async () => {
    const config = await load({});
    expect(await job({})).toEqual({
      name: 'backup',
      format: 'plain',
      incremental: false,
      schedule: { kind: 'cron', expression: '0 0 * * *' },
      jitterMs: 0,
      to: ['default'],
      retention: { name: 'default', keep: { withinMs: 7 * 86_400_000 }, minBackups: 3 },
      compression: { algorithm: 'gzip', level: 5 },
      filename: '{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz',
      excludeTableData: [],
    });
    expect(config).toMatchObject({
      source: 'environment',
      timezone: 'UTC',
      leaseTermMs: 60_000,
      log: { level: 'info', format: 'auto' },
      server: { listen: { host: '127.0.0.1', port: 8080 } },
      warnings: [],
    });
    expect(config.storages.get('default')?.retry).toEqual({ retriesMax: 3, delayMs: 5_000, delayMsMax: 600_000 });
  });

  test.each<[string, Env, Partial<JobConfig>]>([
    ['BACKUP_SCHEDULE', { BACKUP_SCHEDULE: '*/5 * * * *' }, { schedule: { kind: 'cron', expression: '*/5 * * * *' } }],
    ['BACKUP_INTERVAL in seconds', { BACKUP_INTERVAL: '90' }, { schedule: { kind: 'interval', everyMs: 90_000 } }],
    [
      'BACKUP_INTERVAL as a duration',
      { BACKUP_INTERVAL: '6h' },
      { schedule: { kind: 'interval', everyMs: 21_600_000 } },
    ],
    ['BACKUP_INTERVAL as cron', { BACKUP_INTERVAL: '@daily' }, { schedule: { kind: 'cron', expression: '@daily' } }],
    [
      'both, saying the same',
      { BACKUP_INTERVAL: '3600', BACKUP_SCHEDULE: '1h' },
      { schedule: { kind: 'interval', everyMs: 3_600_000 } },
    ],
    ['COMPRESSION_LEVEL', { COMPRESSION_LEVEL: '9' }, { compression: { algorithm: 'gzip', level: 9 } }],
    ['BACKUP_COMPRESSION', { BACKUP_COMPRESSION: 'zstd' }, { compression: { algorithm: 'zstd', level: 2 } }],
    [
      'both',
      { BACKUP_COMPRESSION: 'zstd', COMPRESSION_LEVEL: '19' },
      { compression: { algorithm: 'zstd', level: 19 } },
    ],
    ['none', { BACKUP_COMPRESSION: 'none' }, { compression: { algorithm: 'none', level: 0 } }],
    [
      'BACKUP_FORMAT',
      { BACKUP_FORMAT: 'directory', BACKUP_JOBS: '4' },
      { format: 'directory', parallel: 4, compression: { algorithm: 'zstd', level: 2 } },
    ],
    [
      'BACKUP_FILENAME',
      { BACKUP_FILENAME: 'backup_{YYYYMMDD_HHMMSS}.sql.gz' },
      { filename: 'backup_{YYYYMMDD_HHMMSS}.sql.gz' },
    ],
    [
      'BACKUP_RETENTION_DAYS',
      { BACKUP_RETENTION_DAYS: '30' },
      { retention: { name: 'default', keep: { withinMs: 2_592_000_000 }, minBackups: 3 } },
    ],
  ])('%s', async (_title, env, expected) => {
    expect(await job(env)).toMatchObject(expected);
  });

  test('BACKUP_RETENTION_DAYS=forever deletes nothing', async () => {
    expect(await job({ BACKUP_RETENTION_DAYS: 'forever' })).not.toHaveProperty('retention');
  });

  test('retries, lease and process names are read', async () => {
    const config = await load({
      RETRY_ATTEMPTS: '5',
      RETRY_DELAY: '2',
      BACKUP_LEASE_TERM: '2s',
      LOG_LEVEL: 'WARNING',
      LOG_FORMAT: 'JSON',
      TZ: 'Europe/Berlin',
      PGARK_LISTEN: '0.0.0.0:9090',
    });
    expect(config.storages.get('default')?.retry).toMatchObject({ retriesMax: 5, delayMs: 2_000 });
    expect(config).toMatchObject({
      leaseTermMs: 2_000,
      log: { level: 'warning', format: 'json' },
      timezone: 'Europe/Berlin',
      server: { listen: { host: '0.0.0.0', port: 9090 } },
    });
  });

  test('DEBUG=true is the level debug; lists of modules in it are left alone with a warning', async () => {
    expect((await load({ DEBUG: '1', LOG_LEVEL: 'ERROR' })).log.level).toBe('debug');
    const config = await load({ DEBUG: 'express:*' });
    expect(config.log.level).toBe('info');
    expect(config.warnings).toEqual(['DEBUG is neither true nor false and was ignored']);
  });

  test('flags win over variables', async () => {
    const env = { ...database, LOG_LEVEL: 'error' };
    const config = await loadConfig({ env, cwd: '/srv', flags: { logLevel: 'debug', listen: ':0' } });
    expect(config).toMatchObject({ log: { level: 'debug' }, server: { listen: { host: '0.0.0.0', port: 0 } } });
  });

  test.each<[string, Env, string, number, RegExp]>([
    ['BACKUP_SCHEDULE', { BACKUP_SCHEDULE: '61 * * * *' }, 'cron-invalid', 2, /minute: 61/],
    ['BACKUP_INTERVAL', { BACKUP_INTERVAL: 'often' }, 'cron-invalid', 2, /five cron fields/],
    ['BACKUP_INTERVAL', { BACKUP_INTERVAL: '2h', BACKUP_SCHEDULE: '@daily' }, 'config-conflict', 1, /BACKUP_SCHEDULE/],
    ['COMPRESSION_LEVEL', { COMPRESSION_LEVEL: '10' }, 'config-invalid', 1, /from 1 to 9/],
    ['COMPRESSION_LEVEL', { COMPRESSION_LEVEL: '99' }, 'config-invalid', 1, /from 1 to 9 for gzip/],
    ['COMPRESSION_LEVEL', { COMPRESSION_LEVEL: '3', BACKUP_COMPRESSION: 'none' }, 'config-invalid', 1, /no meaning/],
    ['BACKUP_COMPRESSION', { BACKUP_COMPRESSION: 'gzpi' }, 'config-invalid', 1, /gzip, zstd, none/],
    ['BACKUP_FORMAT', { BACKUP_FORMAT: 'custom' }, 'config-invalid', 1, /plain, directory, physical/],
    ['BACKUP_FILENAME', { BACKUP_FILENAME: 'x', BACKUP_FORMAT: 'directory' }, 'config-invalid', 1, /plain/],
    ['BACKUP_JOBS', { BACKUP_JOBS: '0' }, 'config-invalid', 1, /1 to 64/],
    ['BACKUP_RETENTION_DAYS', { BACKUP_RETENTION_DAYS: '0' }, 'config-invalid', 1, /at least 1, or "forever"/],
    ['BACKUP_RETENTION_DAYS', { BACKUP_RETENTION_DAYS: '7d' }, 'config-invalid', 1, /number of days/],
    ['BACKUP_LEASE_TERM', { BACKUP_LEASE_TERM: '1s' }, 'config-invalid', 1, /at least 2s/],
    ['RETRY_ATTEMPTS', { RETRY_ATTEMPTS: '-1' }, 'config-invalid', 1, /whole number/],
    ['RETRY_DELAY', { RETRY_DELAY: 'soon' }, 'config-invalid', 1, /duration/],
    ['LOG_LEVEL', { LOG_LEVEL: 'loud' }, 'config-invalid', 1, /debug, info/],
    ['TZ', { TZ: 'Mars/Base' }, 'config-invalid', 1, /IANA/],
    ['PGARK_LISTEN', { PGARK_LISTEN: '8080' }, 'config-invalid', 1, /host:port/],
    [
      'WEBHOOK_ON_FAILURE',
      { WEBHOOK_URL: 'https://x.lan', WEBHOOK_ON_FAILURE: 'maybe' },
      'config-invalid',
      1,
      /true or false/,
    ],
    ['WEBHOOK_URL', { WEBHOOK_URL: 'not-an-address' }, 'config-invalid', 1, /http/],
    ['BACKUP_ENCRYPTION', { BACKUP_ENCRYPTION: 'rot13' }, 'config-invalid', 1, /none, age, openssl/],
  ])('a wrong %s is named, with its exit status', async (name, env, code, exitCode, reason) => {
    const error = await failure(env);
    expect(error).toMatchObject({ code, exitCode });
    expect(String(error)).toContain(name);
    expect(String(error)).toMatch(reason);
  });

  test('everything wrong is said at once', async () => {
    const error = await failure({
      DATABASE_URL: '',
      S3_ENDPOINT: 'x',
      BACKUP_SCHEDULE: 'x',
      LOG_LEVEL: 'x',
      COMPRESSION_LEVEL: 'x',
    });
    for (const name of ['DATABASE_URL', 'S3_BUCKET', 'BACKUP_SCHEDULE', 'LOG_LEVEL', 'COMPRESSION_LEVEL']) {
      expect(String(error)).toContain(`${name}: `);
    }
  });
});

describe('encryption by environment names', () => {
  const passphrase = 'correct horse battery staple 1234';
  const encryption = async (env: Env): Promise<EncryptionConfig | undefined> => (await job(env)).encryption;

  test('public keys of age are recipients, whatever separates them', async () => {
    const [first, second] = await Promise.all([newKey(), newKey()]);
    for (const text of [
      `${first.recipient},${second.recipient}`,
      `# team\n${first.recipient}\n${second.recipient}\n`,
    ]) {
      expect(await encryption({ BACKUP_ENCRYPTION_KEY: text })).toEqual({
        name: 'default',
        scheme: 'age',
        recipients: [first.recipient, second.recipient],
      });
    }
  });

  test('an age identity encrypts to its own recipient, and opens backups', async () => {
    const { identity, recipient } = await newKey();
    const env = {
      BACKUP_ENCRYPTION: 'age',
      BACKUP_ENCRYPTION_KEY: `# created: today\n# public key: ${recipient}\n${identity}\n`,
    };
    expect(await encryption(env)).toEqual({ name: 'default', scheme: 'age', recipients: [recipient] });
    const { identities } = (await load(env)).decryptionKeys;
    expect(identities.map((secret) => secret.reveal())).toEqual([identity]);
  });

  test.each([
    ['openssl', 'openssl'],
    ['aes-256-cbc', 'openssl'],
    ['true', 'openssl'],
    ['', 'openssl'],
    ['age', 'age'],
  ])('a passphrase with BACKUP_ENCRYPTION=%s is used for %s', async (chosen, scheme) => {
    const env = { BACKUP_ENCRYPTION: chosen, BACKUP_ENCRYPTION_KEY: passphrase };
    const found = await encryption(env);
    expect(found).toMatchObject({ scheme });
    expect(found !== undefined && 'passphrase' in found && found.passphrase.reveal()).toBe(passphrase);
    expect((await load(env)).decryptionKeys.passphrases.map((secret) => secret.reveal())).toEqual([passphrase]);
  });

  test.each(['none', 'false'])(
    'BACKUP_ENCRYPTION=%s encrypts nothing, and the key still opens older backups',
    async (chosen) => {
      const env = { BACKUP_ENCRYPTION: chosen, BACKUP_ENCRYPTION_KEY: 'short' };
      expect(await encryption(env)).toBeUndefined();
      expect((await load(env)).decryptionKeys.passphrases).toHaveLength(1);
    },
  );

  test('without a key nothing is encrypted unless it was asked for', async () => {
    expect(await encryption({})).toBeUndefined();
    expect(await failure({ BACKUP_ENCRYPTION: 'age' })).toMatchObject({ code: 'config-missing' });
    expect(String(await failure({ BACKUP_ENCRYPTION: 'true' }))).toContain('BACKUP_ENCRYPTION_KEY');
  });

  test.each<[string, string, string]>([
    ['fewer than 32 characters', 'openssl', 'hunter2-and-21-more-charact'],
    ['fewer than 32 characters, by the key alone', 'true', 'hunter2-and-21-more-charact'],
    ['an age key for openssl', 'openssl', 'age1hunter2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
    ['a damaged public key', 'age', 'age1hunter2'],
    ['a damaged identity', 'age', 'AGE-SECRET-KEY-1HUNTER2hunter2'],
    ['a key of SSH', 'age', 'ssh-ed25519 hunter2'],
  ])('%s is refused without a word of it', async (_title, chosen, key) => {
    const error = await failure({ BACKUP_ENCRYPTION: chosen, BACKUP_ENCRYPTION_KEY: key });
    expect(error).toMatchObject({ code: 'key-invalid', exitCode: 1 });
    expect(String(error)).toContain('BACKUP_ENCRYPTION_KEY');
    expect(String(error)).not.toMatch(/hunter2/i);
  });

  test('a passphrase that is too short is answered with how to make one', async () => {
    const error = await failure({ BACKUP_ENCRYPTION: 'openssl', BACKUP_ENCRYPTION_KEY: 'too short' });
    expect(error).toMatchObject({ hint: 'make a passphrase with: openssl rand -base64 33' });
  });

  async function newKey(): Promise<{ identity: string; recipient: string }> {
    const identity = await generateX25519Identity();
    return { identity, recipient: await identityToRecipient(identity) };
  }
});

describe('the webhook by environment names', () => {
  const failures = [
    'failure',
    'recovery',
    'overdue',
    'verify_failed',
    'drill_failed',
    'wal_gap',
    'wal_lag',
    'wal_slot',
  ];
  test.each<[string, Env, string, readonly string[]]>([
    ['tells of failures by default', {}, 'https://ci.lan/hook', failures],
    ['tells of successes too', { WEBHOOK_ON_SUCCESS: 'yes' }, 'https://ci.lan/hook', ['success', ...failures]],
    [
      'tells of successes only',
      { WEBHOOK_ON_SUCCESS: '1', WEBHOOK_ON_FAILURE: '0' },
      'https://ci.lan/hook',
      ['success'],
    ],
  ])('%s', async (_title, env, url, on) => {
    const config = await load({ ...env, WEBHOOK_URL: url });
    expect(config.notifications.get('webhook')).toMatchObject({ type: 'webhook', on });
    expect(config.databases.get('shop')?.notify).toEqual(['webhook']);
  });

  test.each([
    ['https://hooks.slack.com/services/T/B/X', 'slack'],
    ['https://hooks.slack-gov.com/services/T/B/X', 'slack'],
    ['https://discord.com/api/webhooks/1/x', 'discord'],
    ['https://discord.com/api/v10/webhooks/1/x', 'discord'],
    ['https://hooks.slack.com.evil.example/x', 'webhook'],
  ])('%s is of the kind %s', async (url, type) => {
    expect((await load({ WEBHOOK_URL: url })).notifications.get('webhook')?.type).toBe(type);
  });

  test('with both switches off there is none', async () => {
    const config = await load({ WEBHOOK_URL: 'https://ci.lan', WEBHOOK_ON_FAILURE: 'false' });
    expect(config.notifications.size).toBe(0);
    expect(config.databases.get('shop')?.notify).toEqual([]);
  });
});

describe('any environment', () => {
  const names = environmentNames.map(({ name }) => name).filter((name) => name !== 'PGARK_CONFIG');

  test('names that are not pgark’s change nothing', async () => {
    const name = fc
      .string({ minLength: 1 })
      .filter((text) => !names.includes(text.replace(/_FILE$/, '')) && !text.startsWith('PGARK_CONFIG'));
    const calm = JSON.stringify(await load({}));
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, fc.string()), async (env) => {
        expect(JSON.stringify(await load(env))).toBe(calm);
      }),
    );
  });

  test('whatever the known names say, the outcome is a configuration or an error of the table', async () => {
    const value = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.constantFrom(
        'postgres://u:p@h/d',
        's3://b/p',
        '5',
        '6h',
        'true',
        'none',
        'age',
        '/',
        '__proto__',
        'constructor',
        'x:y',
        'https://h',
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.constantFrom(...names), value), async (env) => {
        const outcome = await loadConfig({ env, cwd: '/srv' }).catch((reason: unknown) => reason);
        const isKnown = outcome instanceof PgarkError ? outcome.code !== 'internal' : 'storages' in Object(outcome);
        expect(isKnown).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
