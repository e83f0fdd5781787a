import { type Clock, systemClock } from '../../src/common/clock.ts';

/** The system's time, in which nobody sleeps for longer than so many milliseconds. */
export function impatientClock(sleepMsMax: number): Clock {
  return { ...systemClock, sleep: (ms, signal) => systemClock.sleep(Math.min(ms, sleepMsMax), signal) };
}
