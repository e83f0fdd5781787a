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
  const hangUp = (): void => void session.close();
  signal?.addEventListener('abort', hangUp, { once: true });
  try {
    signal?.throwIfAborted();
    return await ask(session);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', hangUp);
    await session.close();
  }
}
