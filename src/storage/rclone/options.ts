import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import type { RetryPolicy } from '../../common/retry.ts';

export interface RcloneStoreOptions {
  /** `remote:path`, as rclone writes it. The remote is defined in rclone's configuration or by `RCLONE_CONFIG_NAME_…`. */
  readonly remote: string;
  /** Path of rclone.conf. Default: rclone's own. */
  readonly configFile?: string;
  /** This process's environment; environment.ts says what of it rclone gets. PATH is where rclone is looked for. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** For each run of rclone that can be repeated. Default: `defaultRetryPolicy`. */
  readonly retry?: Partial<RetryPolicy>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}
