import type { PgarkError } from '../common/errors.ts';
import type { Manifest } from '../repository/manifest.ts';
import { ArchiveCheck } from './directory/check-archive.ts';
import type { SourceAccess } from './load-source.ts';
import { DumpCheck } from './plain/check-dump.ts';
import { BaseCheck } from './physical/check-base.ts';

/** What proves that a backup of whatever format is what its manifest says. */
export interface BackupCheck {
  /** That every object is there with its size, without reading the data. Error: `corrupt`. */
  presence(): Promise<void>;
  /**
   * Reads every object to its end: the stored bytes, and what they hold, as far as a key opens them. Error: `corrupt`.
   */
  content(told: CheckListener): Promise<void>;
}

export interface CheckListener {
  onStoredBytes(progress: { readonly subject: string; readonly bytes: number; readonly bytesTotal: number }): void;
  /** No key opens it, and from here on the stored bytes are read and no more. Called once, before they are. */
  onLocked(why: PgarkError): void;
}

/** `isProven` tells of backups that were read to their end a moment ago, and are not read again where others need them. */
export function checkOf(
  manifest: Manifest,
  access: SourceAccess,
  isProven: (id: string) => boolean = () => false,
): BackupCheck {
  switch (manifest.format) {
    case 'plain':
      return new DumpCheck(manifest, access);
    case 'directory':
      return new ArchiveCheck(manifest, access);
    case 'physical':
      return new BaseCheck(manifest, access, isProven);
    default:
      return manifest.format satisfies never;
  }
}
