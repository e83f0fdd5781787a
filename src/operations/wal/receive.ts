import { asPgarkError, isPgarkError, type PgarkError } from '../../common/errors.ts';
import { type RetryPolicy, retryDelayMs } from '../../common/retry.ts';
import { sqlStateOf } from '../../postgres/client/server-error.ts';
import type { OperationContext } from '../context.ts';
import type { ReceiveWalRequest, WalReceiverState } from './receive-request.ts';
import { receiveOnce } from './receive-session.ts';
import { ReceiverState } from './receiver-state.ts';
import { alarm, type ReceiverWorld } from './receiver-world.ts';

const PAUSES: RetryPolicy = { retriesMax: Number.MAX_SAFE_INTEGER, delayMs: 1_000, delayMsMax: 60_000 };
const STOP_GRACE_MS = 10_000;
/** The slot is in use: a connection that died may hold it until the server finds out. */
const OBJECT_IN_USE = '55006';
/** So many failures in a row are an alarm; the first ones may be a restart of the server. */
const FAILURES_QUIET = 3;
/** What was received for so long had no failure to begin with. */
const WORKED_MS_MIN = 60_000;

export interface WalReceiver {
  /** What it knows now. */
  state(): WalReceiverState;
  /** Resolves when it was told to stop and has; rejects only with an error of the start (`failsAtStart`). */
  readonly ended: Promise<void>;
}

/**
 * Receives the WAL of a server over a replication slot and archives it, until the context's signal is aborted: then the stream
 * is ended in good order, and what has come is archived within the grace period. A server or storage that is away is waited
 * for.
 */
export function receiveWal(request: ReceiveWalRequest, context: OperationContext): WalReceiver {
  const state = new ReceiverState(context.clock);
  return { state: () => state.snapshot(), ended: receive(request, context, state) };
}

async function receive(request: ReceiveWalRequest, context: OperationContext, state: ReceiverState): Promise<void> {
  const { clock, random, logger } = context;
  const stop = context.signal;
  const giveUp = new AbortController();
  const done = new AbortController();
  const onStop = (): void => {
    clock.sleep(request.stopGraceMs ?? STOP_GRACE_MS, done.signal).then(
      () => giveUp.abort(new Error('the time to store what has come is over')),
      () => undefined,
    );
  };
  if (stop.aborted) onStop();
  else stop.addEventListener('abort', onStop, { once: true, signal: done.signal });
  const world: ReceiverWorld = { request, context, state, stop, giveUp: giveUp.signal };
  try {
    for (let failures = 0; !stop.aborted; ) {
      state.phase = 'connecting';
      const { archived } = state;
      state.streamsSinceMs = undefined;
      try {
        await receiveOnce(world);
        if (!stop.aborted) logger.info('wal.server_stopped', `the server of ${request.source} has shut down`);
      } catch (error) {
        if (stop.aborted) break;
        const failure = asPgarkError(error);
        if (request.failsAtStart === true && state.archived === undefined && !mayPass(error)) throw failure;
        fail(world, failure);
      }
      const streamedMs = clock.monotonicMs() - (state.streamsSinceMs ?? Infinity);
      const worked = state.archived !== archived || streamedMs > WORKED_MS_MIN;
      failures = worked ? 1 : failures + 1;
      if (failures === FAILURES_QUIET && state.failure !== undefined) {
        state.isServerAway = true;
        alarm(world, { kind: 'server', error: state.failure });
      }
      state.phase = 'waiting';
      await clock.sleep(retryDelayMs(PAUSES, failures, random), stop).catch(() => undefined);
    }
  } finally {
    done.abort(new Error('the receiver has ended'));
    state.phase = 'stopped';
  }
}

function fail({ request, context, state }: ReceiverWorld, failure: PgarkError): void {
  const { source } = request;
  const { code, message, hint } = failure;
  state.failure = failure;
  context.logger.warning('wal.interrupted', `WAL of ${source} is not received: ${message}; ${hint}`, { source, code });
}

/** Whether the same may work a little later. */
function mayPass(error: unknown): boolean {
  return (
    isPgarkError(error, 'postgres-unreachable') ||
    isPgarkError(error, 'store-unreachable') ||
    sqlStateOf(error) === OBJECT_IN_USE
  );
}
