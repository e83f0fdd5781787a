import { systemClock } from '../../src/common/clock.ts';

/** Ids of backups tell the second of their start: what begins after this is of a later second than what was. */
export async function nextSecond(): Promise<void> {
  await systemClock.sleep(1_001 - (Date.now() % 1_000));
}
