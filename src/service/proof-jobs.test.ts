import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { loadConfig } from '../config/load.ts';
import { generateAgeIdentity } from '../pipeline/encryption/age-keys.ts';
import { plannedProofs } from './proof-jobs.ts';

test('a key is meant for its own encryption, for its public key elsewhere, and for what is not backed up here', async () => {
  const [own, other, changed] = [await generateAgeIdentity(), await generateAgeIdentity(), await generateAgeIdentity()];
  await using folder = await makeTempDirectory();
  const source = (encryption: string): string =>
    `{ url: "postgres://app@127.0.0.1:1/x", verify: { schedule: "0 4 * * *" }, jobs: { nightly: { format: plain, to: [r2], encryption: ${encryption} } } }`;
  await writeFile(
    folder.join('pgark.yaml'),
    `
version: 1
storages: { r2: { type: file, path: /nonexistent/r2 } }
encryption:
  own: { type: age, identity: ${own.identity.reveal()} }
  same: { type: age, recipients: [${own.recipient}] }
  theirs: { type: age, recipients: [${other.recipient}] }
  changed: { type: age, recipients: [${changed.recipient}], identity: ${own.identity.reveal()} }
databases:
  shop: ${source('own')}
  crm: ${source('same')}
  hr: ${source('theirs')}
  bank: ${source('changed')}
  tried: { url: "postgres://app@127.0.0.1:1/x", verify: { schedule: "0 4 * * *" } }
`,
  );
  const planned = plannedProofs(await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path }));
  expect(planned.map(({ source: name, canOpen, hasJobs }) => [name, canOpen, hasJobs])).toEqual([
    ['shop', true, true],
    ['crm', true, true],
    ['hr', false, true],
    ['bank', true, true],
    ['tried', true, false],
  ]);
});
