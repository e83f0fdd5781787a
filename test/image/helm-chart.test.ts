import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { runProgram } from '../support/cli.ts';
import { makeTempDirectory } from '../support/temp.ts';

const chart = path.resolve(import.meta.dirname, '../../deploy/helm/pgark');
const IMAGE = ['--set', 'image.repository=registry.example.com/pgark'];

interface Pod {
  readonly containers: readonly [{ readonly env: readonly { readonly name: string }[] }];
}

/** What the tests look into of a resource; the rest they compare. */
interface Resource {
  readonly kind: string;
  readonly metadata: unknown;
  readonly spec?: { readonly strategy?: unknown; readonly template?: { readonly spec: Pod } };
  readonly data?: Readonly<Record<string, string>>;
}

async function helm(...args: string[]) {
  await using home = await makeTempDirectory();
  const env = { HELM_CACHE_HOME: home.path, HELM_CONFIG_HOME: home.path, HELM_DATA_HOME: home.path };
  return await runProgram('helm', args, { env });
}

/** What comes of values such as `mode=cronjob`, by kind. */
async function render(...values: string[]): Promise<Map<string, Resource>> {
  const options = values.flatMap((value) => [/[[{]"/.test(value) ? '--set-json' : '--set', value]);
  const { stdout, stderr, exitCode } = await helm('template', 'x', chart, ...IMAGE, ...options);
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 });
  const resources = parseAllDocuments(stdout).flatMap((document) => {
    expect(document.errors).toEqual([]);
    const resource = document.toJS() as Resource | null;
    return resource === null ? [] : [[resource.kind, resource] as const];
  });
  return new Map(resources);
}

describe('the Helm chart', () => {
  test('is clean by helm lint, in both modes', async () => {
    for (const mode of ['deployment', 'cronjob']) {
      const result = await helm('lint', '--strict', chart, ...IMAGE, '--set', `mode=${mode}`);
      expect(result).toMatchObject({ exitCode: 0 });
    }
  });

  test('runs a daemon that can write nothing but /tmp, and has no rights', async () => {
    const resources = await render();
    expect([...resources.keys()].sort()).toEqual(['Deployment', 'Service', 'ServiceAccount']);
    const spec = resources.get('Deployment')?.spec;
    expect(spec?.strategy).toEqual({ type: 'Recreate' });
    expect(spec?.template?.spec).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      volumes: [{ name: 'tmp' }],
    });
    expect(spec?.template?.spec.containers).toMatchObject([
      {
        image: 'registry.example.com/pgark:17',
        args: ['daemon'],
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        },
        livenessProbe: { httpGet: { path: '/healthz' } },
        volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
      },
    ]);
  });

  test('or runs by the cluster’s scheduler, never two at a time', async () => {
    const resources = await render('mode=cronjob', 'schedule=5 1 * * *', 'timeZone=Europe/Vienna');
    expect([...resources.keys()].sort()).toEqual(['CronJob', 'ServiceAccount']);
    expect(resources.get('CronJob')?.spec).toMatchObject({
      schedule: '5 1 * * *',
      timeZone: 'Europe/Vienna',
      concurrencyPolicy: 'Forbid',
      jobTemplate: {
        spec: { backoffLimit: 0, template: { spec: { restartPolicy: 'Never', containers: [{ args: ['once'] }] } } },
      },
    });
  });

  test('takes settings, secrets that exist, a configuration file, a role of the cloud and a volume', async () => {
    const resources = await render(
      'env.S3_BUCKET=backups',
      'env.RETRY_ATTEMPTS=5',
      'existingSecrets.env[0]=database',
      'existingSecrets.files[0]=keys',
      'config.version=1',
      'persistence.enabled=true',
      'serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::1:role/pgark',
    );
    const container = resources.get('Deployment')?.spec?.template?.spec.containers[0];
    expect(container).toMatchObject({
      env: expect.arrayContaining([
        { name: 'S3_BUCKET', value: 'backups' },
        { name: 'RETRY_ATTEMPTS', value: '5' },
        { name: 'PGARK_CONFIG', value: '/etc/pgark/pgark.yaml' },
      ]),
      envFrom: [{ secretRef: { name: 'database' } }],
      volumeMounts: expect.arrayContaining([
        { name: 'data', mountPath: '/data' },
        { name: 'secret-keys', mountPath: '/run/secrets/keys', readOnly: true },
      ]),
    });
    expect(container?.env.map(({ name }) => name)).not.toContain('BACKUP_SCHEDULE');
    expect(resources.get('ConfigMap')?.data).toEqual({ 'pgark.yaml': 'version: 1\n' });
    expect(resources.get('ServiceAccount')?.metadata).toMatchObject({
      annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/pgark' },
    });
    expect(resources.has('PersistentVolumeClaim')).toBe(true);
  });

  test('takes a configuration file as it is, and numbers, tags and secrets of any form', async () => {
    await using directory = await makeTempDirectory();
    const text = 'version: 1\nnotifications:\n  room: { type: slack, url_file: /run/secrets/a.b/url, on: [failure] }\n';
    await writeFile(directory.join('pgark.yaml'), text);
    const settings =
      'image: { tag: 20261120 }\nenv: { BYTES: 8388608, IS_ON: true }\ncronjob: { ttlSecondsAfterFinished: 0 }\n';
    await writeFile(directory.join('values.yaml'), settings);
    const options = ['--values', directory.join('values.yaml'), '--set-file', `config=${directory.join('pgark.yaml')}`];
    for (const value of ['stopGrace=45', 'existingSecrets.files[0]=a.b', 'mode=cronjob']) options.push('--set', value);
    const { stdout, stderr, exitCode } = await helm('template', 'x', chart, ...IMAGE, ...options);
    expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 });
    const found = parseAllDocuments(stdout).map((document) => document.toJS() as Resource | null);
    expect(found.find((each) => each?.kind === 'ConfigMap')?.data).toEqual({ 'pgark.yaml': text });
    expect(found.find((each) => each?.kind === 'CronJob')?.spec).toMatchObject({
      jobTemplate: {
        spec: {
          ttlSecondsAfterFinished: 0,
          template: {
            spec: {
              containers: [
                {
                  image: 'registry.example.com/pgark:20261120',
                  env: expect.arrayContaining([
                    { name: 'PGARK_STOP_GRACE', value: '45' },
                    { name: 'BYTES', value: '8388608' },
                    { name: 'IS_ON', value: 'true' },
                  ]),
                },
              ],
              volumes: expect.arrayContaining([expect.objectContaining({ name: 'secret-a-b' })]),
            },
          },
        },
      },
    });
  });

  test('is watched, and kept apart from what has no business with it', async () => {
    const resources = await render(
      'serviceMonitor.enabled=true',
      'networkPolicy.enabled=true',
      'networkPolicy.egress=[{"ports":[{"port":5432}]}]',
    );
    expect(resources.get('ServiceMonitor')?.spec).toMatchObject({ endpoints: [{ port: 'http', path: '/metrics' }] });
    expect(resources.get('NetworkPolicy')?.spec).toMatchObject({
      policyTypes: ['Ingress', 'Egress'],
      ingress: [],
      egress: [{ ports: [{ port: 53 }, { port: 53 }] }, { ports: [{ port: 5432 }] }],
    });
  });

  test('refuses what would not work, and says why', async () => {
    const { exitCode, stderr } = await helm('template', 'x', chart);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain('image.repository is not set');
    const wrong = await helm('template', 'x', chart, ...IMAGE, '--set', 'mode=daemonset');
    expect(wrong.exitCode).not.toBe(0);
    expect((await helm('template', 'x', chart, ...IMAGE, '--set', 'shedule=x')).exitCode).not.toBe(0);
  });
});
