import { expect, test } from 'vitest';
import { CaughtUp } from './caught-up.ts';

const at = (end: number, second: number) => ({ end: BigInt(end), time: BigInt(second) * 1_000_000n });

/** A question, and its answer that all up to the position was sent. Returns what that proves. */
function ask(caughtUp: CaughtUp, end: number, second: number) {
  caughtUp.asks();
  return caughtUp.answered(at(end, second));
}

test('a server that has sent all that it was to send need not have sent all that it has', () => {
  const caughtUp = new CaughtUp();
  expect(ask(caughtUp, 300, 10)).toBeUndefined();
  caughtUp.wal();
  expect(ask(caughtUp, 900, 20)).toBeUndefined();
  caughtUp.wal();
  expect(ask(caughtUp, 900, 30)).toBeUndefined();
});

test('an idle server had no more at the answer before the last one, and its time goes on', () => {
  const caughtUp = new CaughtUp();
  expect([10, 20, 30].map((second) => ask(caughtUp, 300, second))).toEqual([undefined, at(300, 10), at(300, 20)]);
});

test('WAL between two answers, or a position between them, proves that there was more', () => {
  const caughtUp = new CaughtUp();
  ask(caughtUp, 300, 10);
  caughtUp.asks();
  caughtUp.wal();
  expect(caughtUp.answered(at(300, 20))).toBeUndefined();
  expect(ask(caughtUp, 400, 30)).toBeUndefined();
  expect(ask(caughtUp, 400, 40)).toEqual(at(400, 30));
});

test('answers that were on their way together prove nothing: the server may have had no turn to send between them', () => {
  const caughtUp = new CaughtUp();
  for (let question = 0; question < 3; question += 1) caughtUp.asks();
  expect([10, 20].map((second) => caughtUp.answered(at(300, second)))).toEqual([undefined, undefined]);
  // This question is not the one that is answered next.
  caughtUp.asks();
  expect([30, 31].map((second) => caughtUp.answered(at(300, second)))).toEqual([undefined, undefined]);
  expect(ask(caughtUp, 300, 40)).toEqual(at(300, 31));
});
