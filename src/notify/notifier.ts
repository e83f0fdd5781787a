import type { NotificationMessage } from './message.ts';

/** A message on its way to one channel. */
export interface Outgoing {
  /** The same at every attempt. */
  readonly id: string;
  readonly message: NotificationMessage;
  /** A last sentence beside the message, for people. */
  readonly note?: string;
}

export interface Attempt {
  /** Ends the attempt at once; it rejects with the signal's reason then. */
  readonly signal?: AbortSignal | undefined;
  /** The attempt fails after this time. */
  readonly timeoutMs: number;
}

export interface Receipt {
  /** Something that was not as it should be although the message was taken. */
  readonly caveat?: string;
}

/** One medium: makes a message's text or body, and hands it over. */
export interface Notifier {
  /**
   * Makes one attempt. Resolves once the receiver has taken the message. Rejects with `notification-failed`, whose
   * details say whether another attempt may succeed (`retryable`) and when (`retryAfterMs`), or with the signal's reason.
   * No error holds an address, a token or a password.
   */
  send(outgoing: Outgoing, attempt: Attempt): Promise<Receipt>;
}
