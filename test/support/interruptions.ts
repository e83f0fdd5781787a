import { chmod, writeFile } from 'node:fs/promises';
import { vi } from 'vitest';
import { findPrograms } from '../../src/postgres/client/programs.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FaultyStore } from './faulty-store.ts';

/** A destination whose nth file of rows waits until something has been done. */
export function interrupted(store: ObjectStore, nth: number, work: () => Promise<unknown>) {
  let files = 0;
  const faulty = new FaultyStore(store, {
    before: async ({ method, key }) => {
      if (method !== 'putStream' || !key.includes('.dat')) return;
      files += 1;
      if (files === nth) await work();
    },
  });
  return { destination: { name: 'place', store: faulty, needsDelete: false } };
}

/**
 * A pg_dump that somebody changes something just before, so many times: its snapshot is older. The folder is for it alone;
 * `vi.unstubAllEnvs` brings the true one back.
 */
export async function interruptPgDump(directory: string, times: number, sql: string): Promise<void> {
  vi.unstubAllEnvs();
  const [found] = await findPrograms('pg_dump');
  const program = `#!/bin/sh
case "$*" in *--snapshot*)
  if [ "$(ls '${directory}' | grep -c begun)" -lt ${times} ]; then
    : > '${directory}/begun'$$
    PGOPTIONS='-c lock_timeout=200s' psql -X -q -v ON_ERROR_STOP=1 -c "$(cat '${directory}/change.sql')" > /dev/null || exit 9
  fi;;
esac
exec '${found?.path}' "$@"
`;
  await writeFile(`${directory}/change.sql`, sql);
  await writeFile(`${directory}/pg_dump`, program);
  await chmod(`${directory}/pg_dump`, 0o755);
  vi.stubEnv('PGARK_CLIENT_DIR', directory);
}
