import { kindOfId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { Reader } from '../repository/readers.ts';

/** A backup that retention lets go, and that stays until the next prune since somebody reads it, or one that may need it. */
export interface BackupInUse extends Reader {
  readonly manifest: Manifest;
  /** Id of the one that is read. */
  readonly read: string;
}

/** Collects them in the order of a plan, in which those that need others come before these. */
export class InUse {
  readonly backups: BackupInUse[] = [];
  readonly #bySource = new Map<string, BackupInUse>();

  isRead(manifest: Manifest, { reader }: Reader): void {
    const found = { manifest, read: manifest.id, reader };
    this.backups.push(found);
    if (kindOfId(manifest.id) === 'physical') this.#bySource.set(manifest.source, found);
  }

  /** Whether it is a physical backup behind one that is read, among which are all that this one needs. */
  follows(manifest: Manifest): boolean {
    const first = kindOfId(manifest.id) === 'physical' ? this.#bySource.get(manifest.source) : undefined;
    if (first === undefined) return false;
    this.backups.push({ ...first, manifest });
    return true;
  }
}

/** What of a plan stays for those who read now. */
export function inUseOf(planned: readonly Manifest[], reading: ReadonlyMap<string, Reader>): readonly BackupInUse[] {
  const inUse = new InUse();
  for (const manifest of planned) {
    const reader = reading.get(manifest.id);
    if (reader === undefined) inUse.follows(manifest);
    else inUse.isRead(manifest, reader);
  }
  return inUse.backups;
}
