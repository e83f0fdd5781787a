import { isPgarkError, PgarkError } from '../common/errors.ts';

/** How an attempt failed. All of it may be logged. */
export interface DeliveryProblem {
  /** `Slack refuses the message: 404 (no_service)` */
  readonly message: string;
  readonly hint?: string | undefined;
  /** Whether another attempt could end otherwise. */
  readonly retryable: boolean;
  /** The receiver's own word for when. */
  readonly retryAfterMs?: number | undefined;
}

/** It carries no cause on purpose: what network and mail libraries throw may hold addresses and what was sent. */
export function deliveryError(problem: DeliveryProblem): PgarkError {
  const { message, hint, retryable, retryAfterMs } = problem;
  return new PgarkError('notification-failed', message, {
    ...(hint === undefined ? {} : { hint }),
    details: { retryable, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
  });
}

export function isRetryable(error: unknown): boolean {
  return isPgarkError(error, 'notification-failed') && error.details['retryable'] === true;
}

export function pauseMsOf(error: unknown): number | undefined {
  const asked = error instanceof PgarkError ? error.details['retryAfterMs'] : undefined;
  return typeof asked === 'number' ? asked : undefined;
}

/** Node's and OpenSSL's codes of a certificate that cannot be trusted, or of a TLS that does not come about. */
export function isCertificateCode(code: string): boolean {
  return /CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO/.test(code);
}
