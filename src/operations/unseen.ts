import type { Logger } from '../common/log.ts';

const NAMED_MAX = 5;

/** Says what in a storage may not be looked at, and was left out of what is shown. */
export function warnOfUnseen(paths: readonly string[], location: string, logger: Logger): void {
  if (paths.length === 0) return;
  const more = paths.length > NAMED_MAX ? ` and ${paths.length - NAMED_MAX} more` : '';
  logger.warning(
    'storage.unseen',
    `this user may not read ${paths.slice(0, NAMED_MAX).join(', ')}${more} in ${location}: what is there is not shown`,
  );
}
