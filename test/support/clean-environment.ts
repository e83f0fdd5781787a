import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';

// What runs within the tests' own process must find no settings of whoever runs the tests: no password file, no keys of a
// cloud, no remotes of rclone.
const SETTINGS = /^(PG(?!_TEST_|_MATRIX_|ARK_SOAK_)|AWS_|RCLONE_|OTEL_)/;
for (const name of Object.keys(process.env)) {
  if (SETTINGS.test(name)) delete process.env[name];
}
const home = mkdtempSync(path.join(tmpdir(), 'pgark-test-home-'));
Object.assign(process.env, { HOME: home, TZ: 'UTC', LANG: 'C.UTF-8' });
afterAll(() => rmSync(home, { recursive: true, force: true }));
