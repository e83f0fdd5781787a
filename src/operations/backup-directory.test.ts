import { expect, test } from 'vitest';
import { Secret } from '../common/secret.ts';
import { ageSealer } from '../pipeline/encryption/age-sealer.ts';
import { opensslSealer } from '../pipeline/encryption/openssl-sealer.ts';
import type { Sealer } from '../pipeline/encryption/sealer.ts';
import { directoryFormat } from './backup-directory.ts';

const passphrase = new Secret('correct horse battery staple, and more');

function check(sealer: Sealer): void {
  directoryFormat({
    source: 'shop',
    connection: { host: 'db', port: 5432, user: 'app', database: 'shop', sslMode: 'disable' },
    seal: { compression: { algorithm: 'zstd', level: 2 }, sealer },
    excludeTableData: [],
    leaseTermMs: 60_000,
  }).check();
}

test('an archive takes no passphrase of age, which would be asked for once for each file', async () => {
  const sealer = await ageSealer({ passphrase, workFactor: 1 });
  expect(() => check(sealer)).toThrow(
    expect.objectContaining({ code: 'config-conflict', hint: expect.stringContaining('pgark key generate') }),
  );
});

test('an archive takes a passphrase of openssl', async () => {
  const sealer = await opensslSealer({ passphrase });
  expect(() => check(sealer)).not.toThrow();
});
