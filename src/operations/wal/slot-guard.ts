import type { SlotStatus } from './server-monitor.ts';

/** From this share of what the slot may hold back there is an alarm. */
const ALARM_RATIO = 0.75;

/**
 * `alarm`: it will soon hold back more than it may. `over`: it does, and is dropped, so that the server's disk does not fill.
 * `lost`: the server has let go of WAL that it was to keep.
 */
export type SlotJudgement = { readonly kind: 'fine' | 'lost' } | NearLimit;

export interface NearLimit {
  readonly kind: 'alarm' | 'over';
  readonly retainedBytes: number;
  readonly limitBytes: number;
}

/** `budgetBytes` is what we let it hold back; the server may have a limit of its own, at which it does not ask us. */
export function judgeSlot(status: SlotStatus, budgetBytes: number | undefined): SlotJudgement {
  const { state, retainedBytes } = status;
  if (state === 'lost') return { kind: 'lost' };
  if (retainedBytes === undefined) return { kind: 'fine' };
  if (budgetBytes !== undefined && retainedBytes >= budgetBytes) {
    return { kind: 'over', retainedBytes, limitBytes: budgetBytes };
  }
  const limitBytes = slotLimitBytes(status, budgetBytes) ?? Infinity;
  const isNear = retainedBytes >= ALARM_RATIO * limitBytes || state === 'unreserved';
  return isNear ? { kind: 'alarm', retainedBytes, limitBytes } : { kind: 'fine' };
}

/** As much as the slot may hold back before it is dropped or lost; undefined where nothing limits it. */
export function slotLimitBytes(
  { retainedBytes, safeBytes }: SlotStatus,
  budgetBytes: number | undefined,
): number | undefined {
  if (retainedBytes === undefined || safeBytes === undefined) return budgetBytes;
  return Math.min(budgetBytes ?? Infinity, retainedBytes + Math.max(0, safeBytes));
}
