import type { ProofReader } from '../observability/proof-facts.ts';
import { newestProofs } from '../operations/proofs.ts';
import type { Manifest } from '../repository/manifest.ts';

/** What verifications and drills have found out of backups, as retention reads it. */
export const readProofs: ProofReader = async (store, backups, options) => {
  // Of a database its name alone is asked for.
  const asked = backups.map(({ id, source, database: name }) => ({ id, source, database: { name } }) as Manifest);
  return newestProofs(store, asked, options);
};
