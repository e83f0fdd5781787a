import type { StorageHistory } from '../observability/storage-history.ts';
import { verifyKey } from '../observability/verify-history.ts';
import type { VerifiedBackup } from '../operations/verify.ts';

/** When this process has last found newest backups whole: in a storage that may only be read nothing else tells of it. */
export class VerifiedLines {
  readonly #times = new Map<string, Map<string, Date>>();

  note(storage: string, backups: readonly VerifiedBackup[], at: Date): void {
    const known = this.#times.get(storage) ?? new Map<string, Date>();
    this.#times.set(storage, known);
    for (const { manifest, depth, failure, wasNewest } of backups) {
      if (wasNewest !== true || depth !== 'read' || failure !== undefined) continue;
      known.set(verifyKey({ ...manifest, database: manifest.database.name }), at);
    }
  }

  /** The later of what is recorded and what is known here. */
  addTo(storage: string, history: StorageHistory | undefined): StorageHistory | undefined {
    if (history === undefined) return undefined;
    const verifications = new Map(history.verifications);
    for (const [line, at] of this.#times.get(storage) ?? []) {
      const recorded = verifications.get(line);
      if (recorded === undefined || recorded < at) verifications.set(line, at);
    }
    return { ...history, verifications };
  }
}
