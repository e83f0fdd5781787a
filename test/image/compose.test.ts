import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { expect, test } from 'vitest';
import { docker, imageUnderTest } from '../support/docker.ts';

const folder = path.resolve(import.meta.dirname, '../../deploy/compose');

test('compose.yaml starts in the order of its health, backs up, restores, and stops in time', async () => {
  const project = `pgark-test-${randomBytes(4).toString('hex')}`;
  const env = {
    PGARK_IMAGE: imageUnderTest(),
    PGARK_DRILL_IMAGE: imageUnderTest('drill'),
    POSTGRES_PASSWORD: randomBytes(18).toString('hex'),
    MINIO_ROOT_PASSWORD: randomBytes(18).toString('hex'),
    BACKUP_SCHEDULE: '30 2 * * *',
  };
  const files = ['compose.yaml', 'compose.test.yaml'].flatMap((name) => ['--file', path.join(folder, name)]);
  const compose = (...args: string[]) => docker(['compose', '--project-name', project, ...files, ...args], { env });
  const done = async (...args: string[]): Promise<string> => {
    const result = await compose(...args);
    expect({ args, ...result }).toMatchObject({ exitCode: 0 });
    return result.stdout;
  };
  try {
    await done('up', '--detach', '--wait', '--no-build');
    const psql = (sql: string) => {
      const script = `PGPASSWORD=$(cat /run/secrets/postgres_password) psql -h /tmp -U app -d app -XAtc "${sql}"`;
      return done('exec', '-T', 'postgres', 'sh', '-c', script);
    };
    await psql('CREATE TABLE t AS SELECT generate_series(1, 1000) AS n');
    await done('exec', '-T', 'backup', 'pgark', 'doctor');
    await done('exec', '-T', 'backup', 'backup');
    await psql('DELETE FROM t WHERE n > 10');
    await done('exec', '-T', 'backup', 'restore', 'latest', '--drop-old');
    expect(await psql('SELECT count(*) FROM t')).toBe('1000\n');
    await done('exec', '-T', 'backup', 'healthcheck');
    const find =
      'find / -xdev -writable ! -type l ! -path "/proc/*" ! -path "/dev/*" ! -path "/sys/*" 2>/dev/null; true';
    const writable = await done('exec', '-T', 'backup', 'sh', '-c', find);
    expect(writable.trim().split('\n').toSorted()).toEqual(['/data', '/tmp']);
    expect(await done('exec', '-T', 'backup', 'stat', '-c', '%U %a', '/run/secrets/postgres_password')).toBe(
      'node 400\n',
    );
    await done('stop');
    const status = await docker(['inspect', '--format', '{{.State.ExitCode}}', `${project}-backup-1`]);
    expect(status.stdout.trim()).toBe('0');
  } finally {
    await compose('down', '--volumes', '--timeout', '60');
  }
});

test('compose.yaml is whole: every service, network, health check and secret that is promised', async () => {
  const env = { POSTGRES_PASSWORD: 'password-one', MINIO_ROOT_PASSWORD: 'password-two', GRAFANA_PASSWORD: 'three' };
  const file = path.join(folder, 'compose.yaml');
  const { stdout, stderr, exitCode } = await docker(
    ['compose', '--file', file, '--profile', 'monitoring', 'config', '--format', 'json'],
    { env },
  );
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 });
  expect(stdout).not.toMatch(/password-one|password-two/);
  const { services } = JSON.parse(stdout) as {
    services: Record<string, { networks?: object; network_mode?: string }>;
  };
  expect(Object.keys(services).sort()).toEqual([
    'backup',
    'bucket',
    'grafana',
    'minio',
    'postgres',
    'prometheus',
    'secrets',
  ]);
  for (const { networks, network_mode: mode } of Object.values(services)) {
    expect(mode ?? Object.keys(networks ?? {})).toEqual(mode === undefined ? ['internal'] : 'none');
  }
  expect(services['backup']).toMatchObject({
    depends_on: { postgres: { condition: 'service_healthy' } },
    stop_grace_period: '1m0s',
    read_only: true,
  });
});
