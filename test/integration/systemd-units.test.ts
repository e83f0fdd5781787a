import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { runProgram } from '../support/cli.ts';
import { makeTempDirectory } from '../support/temp.ts';

const folder = path.resolve(import.meta.dirname, '../../deploy/systemd');

/** The units as they are shipped, but for pgark itself, which need not be installed here. */
async function copyUnits(to: string): Promise<readonly string[]> {
  const names = (await readdir(folder)).filter((name) => /\.(?:service|timer)$/.test(name));
  for (const name of names) {
    const text = await readFile(path.join(folder, name), 'utf8');
    await writeFile(path.join(to, name), text.replace(/^(Exec\w+=-?)pgark /gm, '$1/bin/true '));
  }
  return names.map((name) => path.join(to, name));
}

test('systemd finds nothing to mend in the units', async () => {
  await using directory = await makeTempDirectory();
  const units = await copyUnits(directory.path);
  expect(units).toHaveLength(3);
  const { stdout, stderr, exitCode } = await runProgram('systemd-analyze', ['verify', '--man=no', ...units]);
  // Units of the machine itself are none of ours.
  const ours = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('pgark'));
  expect({ ours, exitCode }).toEqual({ ours: [], exitCode: 0 });
});

test('the services are exposed to little', async () => {
  await using directory = await makeTempDirectory();
  for (const unit of await copyUnits(directory.path)) {
    if (!unit.endsWith('.service')) continue;
    const { stdout, exitCode } = await runProgram('systemd-analyze', [
      'security',
      '--offline=true',
      '--threshold=20',
      unit,
    ]);
    expect({ stdout, exitCode }).toMatchObject({ exitCode: 0 });
  }
});

test('systemd-sysusers would make the user that they run as', async () => {
  await using root = await makeTempDirectory();
  const file = path.join(folder, 'pgark.sysusers.conf');
  const { stdout, stderr, exitCode } = await runProgram('systemd-sysusers', ['--dry-run', `--root=${root.path}`, file]);
  expect({ stderr, exitCode }).toMatchObject({ exitCode: 0 });
  expect(`${stdout}${stderr}`).toMatch(/Creating user 'pgark'/);
});
