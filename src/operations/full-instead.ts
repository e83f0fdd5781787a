import { PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';

/** The server turned out not to be the one any more that an earlier backup is of. */
export class OtherLogError extends PgarkError {
  /** A sentence. */
  readonly why: string;

  constructor(id: string, why: string) {
    super('postgres-failed', `no incremental backup can be made from ${id}: ${why}`, {
      hint: 'make a full backup: leave --incremental out',
    });
    this.why = why;
  }
}

export function warnOfFull(logger: Logger, why: string): void {
  logger.warning('backup.full_instead', insteadOf(why));
}

export function insteadOf(why: string): string {
  return `a full backup is made in the place of an incremental one: ${why}`;
}
