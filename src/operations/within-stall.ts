import { formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { type ConnectionParameters, describeConnection } from '../postgres/client/connection-parameters.ts';
import type { OperationContext } from './context.ts';
import { STALL_MS, StallWatch } from './stall-watch.ts';

export interface Asking extends Pick<OperationContext, 'clock' | 'signal'> {
  readonly connection: ConnectionParameters;
  /** How long all of it may take, in milliseconds. Default: 15 minutes. */
  readonly stallMs?: number | undefined;
}

/** Asks what the server has to answer to. The signal given is aborted with the error `stalled` if that takes too long. */
export async function withinStall<T>(
  { connection, clock, signal, stallMs = STALL_MS }: Asking,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using watch = new StallWatch({
    clock,
    stallMs,
    isDue: () => true,
    stalled: () => silentServer(connection, stallMs),
  });
  return await ask(AbortSignal.any([signal, watch.signal]));
}

function silentServer(connection: ConnectionParameters, stallMs: number): PgarkError {
  return new PgarkError(
    'stalled',
    `${describeConnection(connection)} took a connection, then gave no answer for ${formatDuration(stallMs)}`,
    { hint: 'see whether the server hangs, and the network between; then run the backup again' },
  );
}
