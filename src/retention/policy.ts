import { PgarkError } from '../common/errors.ts';

/** How many of the newest backups stay whatever the other rules say. */
export const MIN_BACKUPS_DEFAULT = 3;

/** How many of the newest backups that a drill has restored stay whatever the other rules say. */
export const KEEP_PROVEN_DEFAULT = 1;

/** Backups of a chain of incremental ones, its full one included: then a full one is due. */
export const FULL_EVERY_DEFAULT = 30;

/** Calendar rules: the newest backup of each of the last N periods in which there is one. */
export const PERIOD_NAMES = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
export type PeriodName = (typeof PERIOD_NAMES)[number];

export interface KeepRules extends Readonly<Partial<Record<PeriodName, number>>> {
  /** The newest N. */
  readonly last?: number;
  /** Everything not older than this, in milliseconds before now. */
  readonly withinMs?: number;
}

/**
 * What to keep, for each database by itself, and of a database that was on several servers for each of them (but see
 * `maxTotalBytes`). A backup stays if any rule wants it. A rule that is absent or 0 wants
 * nothing; a policy whose rules all want nothing expires nothing, since "keep none" is never what was meant.
 */
export interface RetentionPolicy {
  readonly keep: KeepRules;
  /** The newest N of each server stay whatever the rules say; 1 at the least. Default: 3. */
  readonly minBackups?: number;
  /** The newest N of each server that a drill has restored stay whatever the rules say. Default: 1. */
  readonly keepProven?: number;
  /**
   * Sum of the stored bytes of one database's backups, of all its servers. While there are more, the oldest lose what the rules gave them;
   * the minimum, pins and what others need stay even above it. Default: 0, no limit.
   */
  readonly maxTotalBytes?: number;
}

/** Rejects negative, fractional and infinite numbers with `config-invalid`: a policy that is not understood deletes nothing. */
export function checkPolicy(policy: RetentionPolicy): void {
  const numbers: Readonly<Record<string, number | undefined>> = {
    ...policy.keep,
    minBackups: policy.minBackups,
    keepProven: policy.keepProven,
    maxTotalBytes: policy.maxTotalBytes,
  };
  for (const [name, value] of Object.entries(numbers)) {
    if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) continue;
    throw new PgarkError(
      'config-invalid',
      `the retention setting ${name} is ${value}, which is no whole number from 0`,
      {
        hint: 'use 0 to switch the rule off, or a whole number',
      },
    );
  }
}
