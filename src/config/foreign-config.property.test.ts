import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { damagedBytes, refusedOr } from '../../test/support/damage.ts';
import { environmentNames } from './environment-names.ts';
import { loadConfig } from './load.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgark-config-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const YAML = `version: 1
storages:
  local: { type: file, path: backups }
  r2: &r2 { type: s3, bucket: b, access_key_id: k, secret_access_key: \${SECRET:-s} }
  other: { <<: *r2, bucket: c }
retention: { short: { keep: { last: 2, daily: 7 } } }
databases:
  shop:
    url: postgres://app@db/shop
    jobs: { nightly: { schedule: "0 2 * * *", to: [local, r2], retention: short } }
`;

describe('a configuration of any content is taken, or refused with a sentence', () => {
  test('a file', async () => {
    const words = fc.constantFrom(
      'version',
      ': ',
      '1',
      '\n',
      '  ',
      '{',
      '}',
      '[',
      ']',
      '&a',
      '*a',
      '<<',
      '- ',
      '"',
      '|',
      '!!js/function',
      '${',
      '#',
      '---',
      '\t',
      '? ',
      'storages',
      'databases',
    );
    const text = fc.oneof(
      { weight: 5, arbitrary: damagedBytes(Buffer.from(YAML)) },
      { weight: 2, arbitrary: fc.array(words, { maxLength: 60 }).map((parts) => Buffer.from(parts.join(''))) },
      {
        weight: 1,
        arbitrary: fc.constantFrom('[', '{a: ', '- ', '? ', '&a [*a, ').map((part) => Buffer.from(part.repeat(20_000))),
      },
    );
    await fc.assert(
      fc.asyncProperty(text, async (bytes) => {
        await writeFile(join(dir, 'pgark.yaml'), bytes);
        await refusedOr(() => loadConfig({ file: 'pgark.yaml', env: {}, cwd: dir }));
      }),
    );
  });

  test('aliases that unfold to more than there is room for', async () => {
    const levels = Array.from(
      { length: 30 },
      (_, level) => `a${level}: &a${level} [${`*a${level - 1}, `.repeat(9)}]\n`,
    );
    await writeFile(join(dir, 'pgark.yaml'), `a-1: &a-1 [x]\n${levels.join('')}`);
    await expect(loadConfig({ file: 'pgark.yaml', env: {}, cwd: dir })).rejects.toMatchObject({
      code: 'config-invalid',
    });
  });

  test('an environment', async () => {
    const value = fc.oneof(
      fc.constantFrom(
        '',
        ' ',
        '0',
        '-1',
        'true',
        'x',
        '1d',
        '9'.repeat(400),
        '0 2 * * *',
        'postgres://u:p@h/d',
        'https://h',
        's3://b/p',
        'file:///b',
        '/dev/null',
        '../x',
        '{',
        '*',
      ),
      fc.string({ unit: 'binary', maxLength: 30 }),
    );
    const name = fc.constantFrom(...environmentNames.flatMap(({ name: each }) => [each, `${each}_FILE`]));
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, value, { maxKeys: 12 }), async (env) => {
        await refusedOr(() => loadConfig({ env: { ...env }, cwd: dir }));
      }),
      { numRuns: 300 },
    );
  });
});
