import type { Session } from './connect.ts';

/**
 * Asks on a session that is closed behind it. The signal ends it at once, with its own reason, also while the server gives
 * no answer. Errors: what the opening and the asking reject with.
 */
export async function withSession<T>(
  opening: Promise<Session>,
  signal: AbortSignal | undefined,
  ask: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await opening;
  try {
    return await untilAborted(session, signal, () => ask(session));
  } finally {
    await session.close();
  }
}

/** Asks on a session that the signal ends at once, with its own reason. Errors: what the asking rejects with. */
export async function untilAborted<T>(
  session: Session,
  signal: AbortSignal | undefined,
  ask: () => Promise<T>,
): Promise<T> {
  const hangUp = (): void => void session.close();
  signal?.addEventListener('abort', hangUp, { once: true });
  try {
    signal?.throwIfAborted();
    return await ask();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', hangUp);
  }
}
