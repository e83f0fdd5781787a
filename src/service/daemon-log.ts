import type { PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { describeConfig } from '../config/describe.ts';
import type { Config } from '../config/model.ts';

export function logNextRun(logger: Logger, job: string, at: Date): void {
  logger.info('schedule.next', `next run of ${job}: ${at.toISOString()}`, { job, nextRunAt: at.toISOString() });
}

/** What is in effect, one event for each part of the configuration; secrets are redacted. */
export function logConfiguration(config: Config, logger: Logger): void {
  const parts = Map.groupBy(describeConfig(config), ({ path }) => path.split('.').slice(0, 2).join('.'));
  for (const [part, rows] of parts) {
    const settings = Object.fromEntries(rows.map(({ path, value }) => [path, value]));
    const text = rows.map(({ path, value }) => `${path}=${value}`).join(' ');
    logger.info('daemon.configuration', `configuration: ${text}`, { part, settings });
  }
}

/** That a configuration was read again in vain. */
export function logKept(logger: Logger, error: PgarkError): void {
  logger.error(
    'daemon.reload_failed',
    `the configuration is not applied, and the one before stays in effect: ${error.message}; ${error.hint}`,
    { code: error.code, hint: error.hint },
  );
}
