import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeConfig } from './describe.ts';
import { loadConfig } from './load.ts';
import type { Config } from './model.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgark-config-'));
  await mkdir(join(dir, 'secrets'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function load(yaml: string, env: Record<string, string> = {}): Promise<Config> {
  await writeFile(join(dir, 'pgark.yaml'), yaml);
  return loadConfig({ file: 'pgark.yaml', env, cwd: dir });
}
const failure = (yaml: string, env?: Record<string, string>): Promise<unknown> =>
  load(yaml, env).catch((reason: unknown) => reason);

const small = `version: 1
storages:
  local: { type: file, path: backups }
databases:
  shop:
    url: postgres://app@db/shop
    jobs: { nightly: { schedule: "@daily" } }
`;

/** Every section at once, in the words of one who runs two servers. */
const complete = `version: 1
timezone: Europe/Vienna
server:
  listen: "[::]:8443"
  public_url: https://ark.example.org
  auth:
    mode: proxy
    proxy: { user_header: x-user, groups_header: x-groups, trusted: [10.0.0.0/8], roles: { admin: [ops], viewer: ["*"] } }
log: { level: warning, format: json }
storages:
  near: { type: file, path: ./near, max_size: 20GiB, retry: { attempts: 0 } }
  far:
    type: s3
    endpoint: "\${FAR_HOST:-far.example.org}"
    bucket: ark
    prefix: /eu/
    access_key_id: "\${FAR_KEY}"
    secret_access_key_file: secrets/far
    ca_file: secrets/ca.pem
    part_size: 16MiB
    max_size: 2TiB
    object_lock: { mode: governance, days: "\${LOCK_DAYS}" }
  cold: { type: rclone, remote: "glacier:ark", config_file: secrets/rclone.conf }
encryption:
  team: { type: age, recipients_file: secrets/recipients }
  old: { type: openssl, passphrase_file: secrets/passphrase }
retention:
  long: { keep: { daily: 7, yearly: 10 }, max_total_size: 1TiB }
  short: { keep: { within: 3d, last: 2 }, min_backups: 1 }
notifications:
  chat: { type: discord, url_file: secrets/chat, remind_every: 1d }
  post: { type: email, smtp: "smtp://robot@mail.example.org", password_file: secrets/mail, to: [a@example.org, b@example.org], digest: "0 7 * * *" }
  alive: { type: healthchecks, url: https://hc.example.org/1, send_log: 10KiB }
  pocket: { type: telegram, token_file: secrets/telegram, chat: "42", on: ["*"] }
defaults:
  notify: [chat]
  retry: { delay: 20s, max_delay: 5m }
  compression: zstd
  bandwidth: 12.5MiB/s
  concurrency: 3
  lease_term: 90s
databases:
  orders:
    url_file: secrets/orders
    sslmode: verify-full
    sslrootcert: secrets/ca.pem
    encryption: team
    protection: production
    notify: [chat, post]
    jobs:
      base: { format: physical, schedule: "0 1 * * 0", jitter: 15m, to: [far, cold], retention: long }
      delta: { format: physical, incremental: true, schedule: 6h, to: [far], retention: long }
      plain: { format: plain, to: [near], compression: { algorithm: gzip, level: 9 }, encryption: none, filename: "{database}/{YYYYMMDD_HHMMSS}" }
    wal: { slot: ark_orders, to: [far], slot_budget: 5GiB, keep: 7d }
    verify: { schedule: "@weekly", sample: 25% }
    drill: { schedule: "@monthly", point: random, assertions: [{ sql: select 1, equals: 1 }], max_restore_time: 1h }
    hooks: { after_backup: [{ run: [/bin/notify, done], on_error: warn }] }
    expect: { max_age: 30h, min_size: 1MiB, size_change: 50% }
  "ledger/2":
    host: /run/postgresql
    user: ark
    databases: ["*", "!scratch_*"]
    globals: none
    jobs: { nightly: { format: directory, schedule: "0 3 * * *", to: [near], parallel: 2, exclude_table_data: [log.*] } }
`;

describe('the configuration file', () => {
  test('a complete one is read whole', async () => {
    const identity = await generateX25519Identity();
    const recipient = await identityToRecipient(identity);
    const files = {
      far: 'FAR-SECRET\n',
      recipients: `# team\n${recipient}\n`,
      passphrase: 'a passphrase of more than thirty-two characters\n',
      chat: 'https://discord.com/api/webhooks/1/x\n',
      mail: 'mail-password\n',
      telegram: '1:token\n',
      orders: 'postgres://ark:pw@orders.lan:5433/orders\n',
    };
    await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(dir, 'secrets', name), text)));
    const config = await load(complete, { FAR_KEY: 'AK', LOCK_DAYS: '30' });

    expect(config).toMatchObject({
      source: { file: join(dir, 'pgark.yaml') },
      timezone: 'Europe/Vienna',
      concurrency: 3,
      leaseTermMs: 90_000,
      bandwidthBytesPerSecond: 13_107_200,
      log: { level: 'warning', format: 'json' },
      server: {
        listen: { host: '::', port: 8443 },
        auth: { mode: 'proxy', userHeader: 'x-user', roles: { admin: ['ops'], operator: [] } },
      },
    });
    expect(config.storages.get('near')).toEqual({
      name: 'near',
      type: 'file',
      path: join(dir, 'near'),
      maxSizeBytes: 20 * 2 ** 30,
      retry: { retriesMax: 0, delayMs: 20_000, delayMsMax: 300_000 },
    });
    expect(config.storages.get('far')).toMatchObject({
      endpoint: 'https://far.example.org',
      prefix: 'eu',
      caFile: join(dir, 'secrets/ca.pem'),
      partBytes: 16 * 2 ** 20,
      maxSizeBytes: 2 * 2 ** 40,
      objectLock: { mode: 'governance', days: 30 },
      forcePathStyle: true,
    });
    expect(config.storages.get('cold')).toMatchObject({
      remote: 'glacier:ark',
      configFile: join(dir, 'secrets/rclone.conf'),
    });

    const orders = config.databases.get('orders');
    expect(orders?.connection).toMatchObject({
      host: 'orders.lan',
      port: 5433,
      user: 'ark',
      database: 'orders',
      sslMode: 'verify-full',
      sslRootCert: join(dir, 'secrets/ca.pem'),
    });
    expect(orders?.jobs.get('base')).toMatchObject({
      format: 'physical',
      to: ['far', 'cold'],
      jitterMs: 900_000,
      retention: { name: 'long', keep: { daily: 7, yearly: 10 }, minBackups: 3, maxTotalBytes: 2 ** 40 },
      encryption: { scheme: 'age', recipients: [recipient] },
      compression: { algorithm: 'zstd', level: 2 },
    });
    expect(orders?.jobs.get('delta')).toMatchObject({
      incremental: true,
      schedule: { kind: 'interval', everyMs: 21_600_000 },
    });
    expect(orders?.jobs.get('plain')).toMatchObject({ compression: { algorithm: 'gzip', level: 9 } });
    expect(orders?.jobs.get('plain')).not.toHaveProperty('encryption');
    expect(orders?.jobs.get('plain')).not.toHaveProperty('schedule');
    expect(orders).toMatchObject({
      protection: 'production',
      notify: ['chat', 'post'],
      wal: { slot: 'ark_orders', to: ['far'], flushMs: 10_000, slotBudgetBytes: 5 * 2 ** 30, keepMs: 604_800_000 },
      verify: { sampleRatio: 0.25 },
      drill: { point: 'random', assertions: [{ sql: 'select 1', equals: 1 }], maxRestoreTimeMs: 3_600_000 },
      hooks: { beforeBackup: [], afterBackup: [{ run: ['/bin/notify', 'done'], timeoutMs: 60_000, onError: 'warn' }] },
      expect: { maxAgeMs: 108_000_000, minSizeBytes: 2 ** 20, sizeChangeRatio: 0.5 },
    });
    expect(config.databases.get('ledger/2')).toMatchObject({
      connection: { host: '/run/postgresql', port: 5432, user: 'ark', database: 'postgres', sslMode: 'prefer' },
      databases: ['*', '!scratch_*'],
      globals: 'none',
      notify: ['chat'],
      protection: 'normal',
    });
    expect(config.notifications.get('post')).toMatchObject({
      smtp: { host: 'mail.example.org', port: 587, tls: false, user: 'robot' },
      from: 'a@example.org',
      digest: { kind: 'cron', expression: '0 7 * * *' },
    });
    expect(config.notifications.get('pocket')?.on).toContain('start');
    expect(config.notifications.get('alive')?.on).toEqual(['start', 'success', 'failure']);
    expect(config.decryptionKeys.passphrases).toHaveLength(1);
  });

  test('with it the environment is ignored, with one warning that names what is', async () => {
    const env = {
      DATABASE_URL: 'postgres://x@elsewhere/x',
      S3_BUCKET: 'b',
      PGPASSWORD_FILE: '/nowhere',
      AWS_REGION: 'r',
      HOME: '/',
    };
    const config = await load(small, env);
    expect(config.databases.get('shop')?.connection.host).toBe('db');
    expect(config.warnings).toEqual([
      'pgark.yaml is the configuration; these variables are ignored: DATABASE_URL, PGPASSWORD_FILE, S3_BUCKET',
    ]);
    expect((await load(small)).warnings).toEqual([]);
    expect((await load(small, { PGARK_LISTN: ':80', BACKUP_RETENTION_DAY: '3' })).warnings).toEqual([
      'PGARK_LISTN is no setting of pgark and was ignored; did you mean PGARK_LISTEN?',
    ]);
  });

  test('names of the process fill what the file leaves unsaid, and flags win over both', async () => {
    const env = { LOG_LEVEL: 'error', LOG_FORMAT: 'json', TZ: 'Asia/Tokyo', PGARK_LISTEN: '0.0.0.0:1' };
    expect(await load(small, env)).toMatchObject({ log: { level: 'error' }, timezone: 'Asia/Tokyo', warnings: [] });
    expect(await load(`${small}timezone: UTC\nlog: { level: info }\n`, env)).toMatchObject({
      log: { level: 'info', format: 'json' },
      timezone: 'UTC',
    });
    const config = await loadConfig({ file: 'pgark.yaml', env, cwd: dir, flags: { logLevel: 'debug' } });
    expect(config.log.level).toBe('debug');
  });

  test('PGARK_CONFIG names it, and the flag wins', async () => {
    await load(small);
    expect((await loadConfig({ env: { PGARK_CONFIG: 'pgark.yaml' }, cwd: dir })).source).toEqual({
      file: join(dir, 'pgark.yaml'),
    });
    await expect(
      loadConfig({ file: 'other.yaml', env: { PGARK_CONFIG: 'pgark.yaml' }, cwd: dir }),
    ).rejects.toMatchObject({
      code: 'config-unreadable',
      message: 'cannot read the configuration file other.yaml: there is no such file',
    });
  });

  test('several storages want a choice, and one does not', async () => {
    const two = small.replace('databases:', '  other: { type: file, path: x }\ndatabases:');
    expect(String(await failure(two))).toContain(
      'databases.shop.jobs.nightly.to: is required, since there are 2 storages',
    );
    expect((await load(small)).databases.get('shop')?.jobs.get('nightly')?.to).toEqual(['local']);
  });

  test('references take variables, defaults for empty ones, and $${ for themselves', async () => {
    const path = async (text: string, env: Record<string, string>): Promise<unknown> =>
      describeConfig(
        await load(
          small.replace('path: backups', () => `path: "${text}"`),
          env,
        ),
      ).find((row) => row.path === 'storages.local.path')?.value;
    expect(await path('/a/${X}/${Y:-y}', { X: 'x', Y: '' })).toBe('/a/x/y');
    expect(await path('/a/$${X}', { X: 'x' })).toBe('/a/${X}');
    // What a variable holds is a value, never a reference or a part of the file.
    expect(await path('/${X}', { X: '${Y}: [1]' })).toBe('/${Y}: [1]');
  });

  test('a secret and its file exclude each other, and an unreadable one is named with its path', async () => {
    const both = small.replace('    jobs', '    url_file: x\n    jobs');
    expect(await failure(both)).toMatchObject({ code: 'config-conflict' });
    const gone = small.replace('url: postgres://app@db/shop', 'url_file: secrets/gone');
    expect(String(await failure(gone))).toMatch(/6:5: databases.shop.url_file: cannot read secrets\/gone: ENOENT/);
  });

  test('anchors work, and a bomb of aliases is refused', async () => {
    const shared = small
      .replace('{ type: file, path: backups }', '&s { type: file, path: backups }\n  twin: *s')
      .replace('{ schedule', '{ to: [twin], schedule');
    expect((await load(shared)).storages.get('twin')).toMatchObject({ type: 'file' });
    const levels = Array.from(
      { length: 12 },
      (_, level) => `a${level + 1}: &a${level + 1} [${Array(10).fill(`*a${level}`).join(', ')}]`,
    );
    for (const loop of ['x: &x [*x]\n', 'x: &x { y: { z: *x } }\n', 'x: *gone\n']) {
      expect(String(await failure(loop))).toContain('an alias (*name) must follow its anchor');
    }
    expect(String(await failure(`a0: &a0 [x]\n${levels.join('\n')}\n`))).toContain('aliases expand too far');
  });

  test.each(['', '# nothing\n', '- a\n', 'text\n', '{', 'null\n'])('%j is refused in words', async (yaml) => {
    expect(await failure(yaml)).toMatchObject({ code: expect.stringMatching(/^config-/) as string, exitCode: 1 });
  });

  test('an origin says the line, the variable, the flag or the default', async () => {
    await load(`${small}defaults: { retry: { delay: 1s } }\n`);
    const config = await loadConfig({ file: 'pgark.yaml', env: { TZ: 'UTC' }, cwd: dir, flags: { logLevel: 'debug' } });
    const origins = Object.fromEntries(describeConfig(config).map(({ path, origin }) => [path, origin]));
    expect(origins).toMatchObject({
      source: 'flag: --config',
      timezone: 'environment: TZ',
      'log.level': 'flag: --log-level',
      'log.format': 'default',
      'storages.local.path': 'file: pgark.yaml:3',
      'storages.local.retry.delay': 'file: pgark.yaml:8',
      'storages.local.retry.attempts': 'default',
      'databases.shop.connection.host': 'file: pgark.yaml:6',
      'databases.shop.connection.port': 'default',
      'databases.shop.jobs.nightly.schedule': 'file: pgark.yaml:7',
      'databases.shop.jobs.nightly.format': 'default',
    });
  });
});
