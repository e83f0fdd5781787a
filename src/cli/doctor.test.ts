import { writeFile } from 'node:fs/promises';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

const DROP_IN = {
  POSTGRES_HOST: '127.0.0.1',
  POSTGRES_USER: 'u',
  POSTGRES_PASSWORD: 'not to be shown',
  POSTGRES_DATABASE: 'shop',
  SCHEDULE: '@daily',
  PGSERVICE: 'shop',
  BACKUP_SCHEDULE: '@daily',
  S3_S3V4: 'no',
};

async function doctor(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<{ exit: number; out: string }> {
  const terminal = recordingTerminal();
  const exit = await runCli(['doctor', ...args], cliWorld(terminal, environment));
  expect(terminal.stdout() + terminal.stderr()).not.toContain('not to be shown');
  return { exit, out: terminal.stdout() };
}

describe('doctor', () => {
  test('says what becomes of other tools’ variables, although the configuration is not complete without them', async () => {
    const { exit, out } = await doctor(DROP_IN);
    expect(exit).toBe(1);
    expect(out).toContain(
      '! POSTGRES_DATABASE (of postgres-backup-s3): not read by pgark; POSTGRES_DB takes its place\n',
    );
    expect(out).toMatch(/^! SCHEDULE .*: not read by pgark; BACKUP_SCHEDULE is set: cron without/m);
    expect(out).toMatch(/^! S3_S3V4 .*: not read by pgark: requests are always signed/m);
    expect(out).toMatch(/^! PGSERVICE \(of libpq\): not read by pgark: services are not looked up; say DATABASE_URL/m);
    expect(out).toContain('✖ configuration: POSTGRES_DB: is required');
  });

  test('says nothing of them where a file is the configuration', async () => {
    const { out } = await doctor({ ...DROP_IN, PGARK_CONFIG: '/nonexistent/pgark.yaml' });
    expect(out).not.toContain('SCHEDULE');
    expect(out).toContain('✖ configuration: ');
  });

  test('says what is configured and referred to by nothing', async () => {
    await using folder = await makeTempDirectory();
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages: { disk: { type: file, path: disk } }
notifications: { ops: { type: ntfy, url: "https://ntfy.sh/ops" } }
databases: { shop: { url: "postgres://app@127.0.0.1:1/shop", jobs: { nightly: { format: plain } } } }
`,
    );
    const terminal = recordingTerminal();
    await runCli(['doctor', '--config', 'pgark.yaml'], cliWorld(terminal, {}, folder.path));
    expect(terminal.stdout()).toContain('! notifications.ops: is named by no database: nobody is told through it\n');
  });

  test('says that an incremental job which encrypts for others makes full backups', async () => {
    await using folder = await makeTempDirectory();
    const recipient = await identityToRecipient(await generateX25519Identity());
    const job = '{ format: physical, incremental: true, encryption: team }';
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages: { disk: { type: file, path: disk } }
encryption: { team: { type: age, recipients: ["${recipient}"] } }
databases: { shop: { url: "postgres://app@127.0.0.1:1/shop", jobs: { changes: ${job} } } }
`,
    );
    const terminal = recordingTerminal();
    await runCli(['doctor', '--config', 'pgark.yaml'], cliWorld(terminal, {}, folder.path));
    expect(terminal.stdout()).toMatch(/^! incremental backups: no identity is configured/m);
  });
});
