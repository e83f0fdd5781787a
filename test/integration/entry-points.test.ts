import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { environmentNames } from '../../src/config/environment-names.ts';
import { runProgram } from '../support/cli.ts';

const root = path.resolve(import.meta.dirname, '../..');

// Some hundred processes are started one after the other: on a busy machine that takes its time.
test('the entry points of the image keep what is promised of them (test/unit.bats)', { timeout: 600_000 }, async () => {
  const result = await runProgram('bats', ['--formatter', 'tap', path.join(root, 'test/unit.bats')]);
  expect(result.stdout).toMatch(/^1\.\.[1-9]/);
  expect({ exitCode: result.exitCode, output: result.stdout + result.stderr }).toMatchObject({ exitCode: 0 });
});

/** Variables of pgark as files for deployments name them; what comes before may not be a part of a longer name. */
const SETTING = /(?<![\w{])(?:BACKUP|PGARK|S3|POSTGRES|RETRY|WEBHOOK)_[A-Z][A-Z0-9_]*/g;
/** Variables of the files' own, of the build and of the image of PostgreSQL. */
const OTHERS = new Set(['PGARK_IMAGE', 'PGARK_DRILL_IMAGE', 'POSTGRES_PASSWORD_FILE']);

test('files for deployments name no setting that pgark does not have', async () => {
  const known = new Set(environmentNames.flatMap(({ name }) => [name, `${name}_FILE`]));
  const folder = path.join(root, 'deploy');
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  const unknown: string[] = [];
  for (const file of files.filter((name) => !name.endsWith('compose/test.yaml'))) {
    const text = await readFile(file, 'utf8');
    for (const [name] of text.matchAll(SETTING)) {
      if (!known.has(name) && !OTHERS.has(name)) unknown.push(`${path.relative(root, file)}: ${name}`);
    }
  }
  expect(unknown).toEqual([]);
});
