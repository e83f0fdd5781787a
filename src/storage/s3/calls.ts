import type { S3Client } from '@aws-sdk/client-s3';
import type { Clock } from '../../common/clock.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import { type RetryPolicy, withRetries } from '../../common/retry.ts';
import type { S3Connection } from './client.ts';
import { failureOf, isTransient, type S3Action, storeError } from './failures.ts';
import type { S3StoreOptions } from './options.ts';

export interface S3Request {
  readonly action: S3Action;
  /** Full key in the bucket, for messages. */
  readonly key?: string;
  /** Whether it locks what it makes. */
  readonly locks?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Sends one command; `options` carries the signal of the attempt. */
export type Send<T> = (client: S3Client, options: { readonly abortSignal: AbortSignal }) => Promise<T>;

/** An abort that follows another signal for as long as it is needed, and leaves nothing behind on it. */
export function linkedAbort(signal: AbortSignal | undefined): {
  readonly controller: AbortController;
  readonly unlink: () => void;
} {
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort, { once: true });
  return { controller, unlink: () => signal?.removeEventListener('abort', onAbort) };
}

/**
 * How long an answer is waited for after an abort, where something would be left: a store may carry out a request that was
 * cut off after one has looked what it has left.
 */
export const ANSWER_MS = 5_000;

/** An abort that follows another signal after a while. `end` has to be called: it leaves nothing behind. */
export function patientAbort(
  signal: AbortSignal | undefined,
  clock: Clock,
  patienceMs: number,
): { readonly signal: AbortSignal; readonly end: () => Promise<void> } {
  const late = new AbortController();
  const done = new AbortController();
  let waiting: Promise<void> | undefined;
  const onAbort = (): void => {
    waiting = clock.sleep(patienceMs, done.signal).then(
      () => late.abort(signal?.reason),
      () => {},
    );
  };
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort, { once: true });
  const end = async (): Promise<void> => {
    signal?.removeEventListener('abort', onAbort);
    done.abort();
    await waiting;
  };
  return { signal: late.signal, end };
}

/** Sends requests to one bucket: each attempt built and signed anew, retried by the policy, its failure put into words. */
export class S3Calls {
  readonly bucket: string;
  readonly policy: RetryPolicy;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly beforeResending: S3StoreOptions['beforeResending'];
  readonly #connection: S3Connection;

  constructor(
    connection: S3Connection,
    options: {
      readonly bucket: string;
      readonly policy: RetryPolicy;
      readonly clock: Clock;
      readonly random: Random;
      readonly logger: Logger;
      readonly beforeResending?: S3StoreOptions['beforeResending'];
    },
  ) {
    this.#connection = connection;
    this.bucket = options.bucket;
    this.policy = options.policy;
    this.clock = options.clock;
    this.random = options.random;
    this.logger = options.logger;
    this.beforeResending = options.beforeResending;
  }

  /** The same connection with another policy and logger, for requests whose failure is expected. */
  with(changes: { readonly policy: RetryPolicy; readonly logger: Logger }): S3Calls {
    const { bucket, clock, random } = this;
    return new S3Calls(this.#connection, { bucket, clock, random, ...changes });
  }

  get client(): S3Client {
    return this.#connection.client;
  }

  get host(): string {
    return this.#connection.host;
  }

  /** Whether bodies of parts are signed, since no TLS guards them. */
  get signsBodies(): boolean {
    return this.#connection.signsBodies;
  }

  get storeClock(): S3Connection['storeClock'] {
    return this.#connection.storeClock;
  }

  /** With retries; rejects with a `PgarkError`, or with the signal's reason. */
  async run<T>(request: S3Request, send: Send<T>): Promise<T> {
    return this.wording(request, () => this.retrying(request, () => this.once(request, send)));
  }

  /** One attempt; rejects with what the SDK throws, or with the signal's reason. */
  async once<T>(request: Pick<S3Request, 'signal'>, send: Send<T>): Promise<T> {
    const { signal } = request;
    signal?.throwIfAborted();
    const { controller, unlink } = linkedAbort(signal);
    try {
      return await send(this.client, { abortSignal: controller.signal });
    } catch (error) {
      // A store may answer before it has read the whole body. The rest must not be sent from a buffer that is used again.
      controller.abort();
      signal?.throwIfAborted();
      throw error;
    } finally {
      unlink();
    }
  }

  /** Repeats an attempt as long as `isRetryable` (default: a transient failure) and the policy allow it. */
  async retrying<T>(
    request: S3Request,
    attempt: (attempt: number) => Promise<T>,
    isRetryable: (error: unknown) => boolean = isTransient,
  ): Promise<T> {
    return withRetries(attempt, {
      policy: this.policy,
      clock: this.clock,
      random: this.random,
      signal: request.signal,
      isRetryable,
      onRetry: (error, count, delayMs) => this.#logRetry(request, error, count, delayMs),
    });
  }

  /** Puts whatever the action throws into words, unless it is the signal's reason. */
  async wording<T>(request: S3Request, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      request.signal?.throwIfAborted();
      throw this.errorOf(error, request);
    }
  }

  errorOf(error: unknown, request: S3Request): ReturnType<typeof storeError> {
    return storeError(error, {
      action: request.action,
      bucket: this.bucket,
      host: this.#connection.host,
      key: request.key,
      locks: request.locks,
      clockSkewMs: this.storeClock.skewMs,
    });
  }

  #logRetry(request: S3Request, error: unknown, attempt: number, delayMs: number): void {
    const { code, status } = failureOf(error);
    this.logger.warning('store.retry', `${request.action} failed (${code}), trying again`, {
      action: request.action,
      key: request.key,
      storeCode: code,
      status,
      attempt,
      delayMs,
    });
  }
}
