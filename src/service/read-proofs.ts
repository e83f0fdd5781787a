import type { ProofReader } from '../observability/proof-facts.ts';
import { newestProofs } from '../operations/proofs.ts';

/** What verifications and drills have found out of backups, as retention reads it. */
export const readProofs: ProofReader = async (store, backups, options) => {
  const asked = backups.map(({ id, source, database: name }) => ({ id, source, database: { name } }));
  return newestProofs(store, asked, options);
};
