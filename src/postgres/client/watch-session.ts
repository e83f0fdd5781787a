import { messageOf, type PgarkError } from '../../common/errors.ts';
import type { Session } from './connect.ts';

/**
 * Asks the server on an idle session, at a third of `patienceMs`, whether it is still there. `lost` is aborted, with the
 * error that `lose` makes of the reason, once the session has ended or the server has not answered for all of it. Nothing
 * else may be asked on the session meanwhile that takes long.
 */
export function watchSession(
  session: Session,
  patienceMs: number,
  lose: (why: string) => PgarkError,
): { readonly lost: AbortSignal; readonly stop: () => void } {
  const lost = new AbortController();
  let patience: NodeJS.Timeout | undefined;
  let stopped = false;
  const end = (why: string): void => {
    stop();
    lost.abort(lose(why));
  };
  const ask = async (): Promise<void> => {
    patience = setTimeout(() => end(`the server has not answered for ${patienceMs / 1_000} s`), patienceMs).unref();
    try {
      await session.query('select 1');
    } catch (error) {
      if (!stopped) end(messageOf(error));
      return;
    } finally {
      clearTimeout(patience);
    }
    if (!stopped) timer.refresh();
  };
  const timer = setTimeout(() => void ask(), patienceMs / 3).unref();
  const stop = (): void => {
    stopped = true;
    clearTimeout(timer);
    clearTimeout(patience);
  };
  return { lost: lost.signal, stop };
}
