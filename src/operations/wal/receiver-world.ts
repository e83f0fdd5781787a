import { PgarkError } from '../../common/errors.ts';
import type { OperationContext } from '../context.ts';
import type { ReceiveWalRequest, WalAlarm } from './receive-request.ts';
import type { ReceiverState } from './receiver-state.ts';

/** What the parts of a receiver share. */
export interface ReceiverWorld {
  readonly request: ReceiveWalRequest;
  /** Its signal is not looked at: `stop` and `giveUp` are. */
  readonly context: OperationContext;
  readonly state: ReceiverState;
  /** Aborted: nothing more is received, and what has come is stored. */
  readonly stop: AbortSignal;
  /** Aborted: what has come is stored no more. */
  readonly giveUp: AbortSignal;
}

/** A slot whose server is to be asked about it. */
export type SlotRequest = Pick<ReceiveWalRequest, 'source' | 'connection' | 'slot' | 'slotBudgetBytes' | 'onAlarm'>;
export type SlotState = Pick<ReceiverState, 'archived' | 'slot' | 'slotMemory'>;

/** What looks after a slot needs, whether anything is received over it or not. */
export interface SlotWorld extends Pick<ReceiverWorld, 'context' | 'stop'> {
  readonly request: SlotRequest;
  readonly state: SlotState;
}

/** Says what somebody has to look after, in the log and to who asked. */
export function alarm({ request, context }: Pick<SlotWorld, 'request' | 'context'>, raised: WalAlarm): void {
  if (raised.kind !== 'over') {
    const { message, hint, code } = raised.error;
    context.logger.error(`wal.${raised.kind.replace('-', '_')}`, `${message}; ${hint}`, {
      source: request.source,
      code,
    });
  }
  request.onAlarm?.(raised);
}

/** WAL that is missing for good. */
export function gapError(source: string, from: string, to: string, why: string): PgarkError {
  return new PgarkError('wal-gap', `the WAL of ${source} from ${from} to ${to} is lost: ${why}`, {
    details: { from, to },
  });
}
