import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { describeConfig } from './describe.ts';
import { loadConfig } from './load.ts';

const QUICK = { DATABASE_URL: 'postgres://u:p@db/shop', BACKUP_STORAGE: 'file:///backups' };

function fromEnvironment(env: Readonly<Record<string, string>>) {
  return loadConfig({ env: { ...QUICK, ...env }, cwd: '/' });
}

async function fromFile(traces: string, env: Readonly<Record<string, string>> = {}) {
  await using folder = await makeTempDirectory();
  await writeFile(folder.join('pgark.yaml'), `version: 1\nstorages: {}\ndatabases: {}\ntraces: ${traces}\n`);
  await writeFile(folder.join('headers'), 'x=of-the-file\n');
  return await loadConfig({ file: 'pgark.yaml', env, cwd: folder.path });
}

describe('where traces go', () => {
  test('is nowhere unless it is said', async () => {
    const { traces, warnings } = await fromEnvironment({ OTEL_SERVICE_NAME: 'x', OTEL_EXPORTER_OTLP_HEADERS: 'a=b' });
    expect([traces, warnings]).toEqual([undefined, []]);
  });

  test.each([
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' }, 'http://c:4318/v1/traces'],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c/otlp/' }, 'https://c/otlp/v1/traces'],
    [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://t:1/x', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' }, 'http://t:1/x'],
  ])('is by %j %s', async (env, url) => {
    expect((await fromEnvironment(env)).traces).toEqual({ url, serviceName: 'pgark' });
  });

  test('is nowhere where the SDK is switched off, in the file too', async () => {
    const off = { OTEL_SDK_DISABLED: 'TRUE' };
    expect((await fromEnvironment({ ...off, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c' })).traces).toBeUndefined();
    expect((await fromFile('{ url: "http://c/" }', off)).traces).toBeUndefined();
    expect((await fromFile('{ url: "http://c/", enabled: false }')).traces).toBeUndefined();
  });

  test('is nowhere, with a warning, where a variable holds what cannot be used', async () => {
    for (const [value, complaint] of [
      ['collector:4317', 'is no http or https address'],
      ['https://me:hunter2@c', 'has a password in it, which belongs in the headers'],
    ] as const) {
      const { traces, warnings } = await fromEnvironment({ OTEL_EXPORTER_OTLP_ENDPOINT: value });
      expect(traces).toBeUndefined();
      expect(warnings).toEqual([`no traces are sent: OTEL_EXPORTER_OTLP_ENDPOINT ${complaint}`]);
    }
  });

  test('is wrong in the file where it cannot be used', async () => {
    await expect(fromFile('{ url: "collector:4317" }')).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('traces.url: is no http or https address'),
    });
  });

  test('is in the file, and the variables fill what it leaves unsaid', async () => {
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'grpc-only:4317',
      OTEL_EXPORTER_OTLP_HEADERS: 'x=of-the-environment',
      OTEL_SERVICE_NAME: 'night',
    };
    const own = await fromFile('{ url: "http://c/", headers_file: headers }', env);
    expect(own.traces).toMatchObject({ url: 'http://c/', serviceName: 'night' });
    expect(own.traces?.headers?.reveal()).toBe('x=of-the-file');
    expect(own.warnings).toEqual([]);
    expect((await fromFile('{ url: "http://c/" }', env)).traces?.headers?.reveal()).toBe('x=of-the-environment');
  });

  test('is shown without the headers', async () => {
    const config = await fromEnvironment({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c',
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=hunter2',
    });
    const rows = describeConfig(config).filter(({ path }) => path.startsWith('traces'));
    expect(rows.map(({ path, value, origin }) => `${path}=${value} (${origin})`)).toEqual([
      'traces.url=http://c/v1/traces (environment: OTEL_EXPORTER_OTLP_ENDPOINT)',
      'traces.headers=[redacted] (environment: OTEL_EXPORTER_OTLP_HEADERS)',
      'traces.service_name=pgark (default)',
    ]);
  });
});
