import { expect, test } from 'vitest';
import { BLOCK_BYTES } from './bytes.ts';
import { StreamSequence } from './stream-sequence.ts';

/** A sequence, and whether its source is held up. */
function watched(): { readonly sequence: StreamSequence<string>; readonly isHeld: () => boolean } {
  let held = false;
  const flow = { pause: () => void (held = true), resume: () => void (held = false) };
  return { sequence: new StreamSequence<string>(flow), isHeld: () => held };
}

function append(sequence: StreamSequence<string>, bytes: number, value: number): void {
  const block = new Uint8Array(bytes).fill(value);
  sequence.append(new DataView(block.buffer), 0, bytes);
}

async function readAll(part: Awaited<ReturnType<StreamSequence<string>['next']>>): Promise<[string, number, number]> {
  let bytes = 0;
  let first = -1;
  for (let block = await part?.queue.next(); block !== undefined; block = await part?.queue.next()) {
    first = first < 0 ? (block[0] ?? -1) : first;
    bytes += block.length;
  }
  return [part?.label ?? 'none', bytes, first];
}

test('streams come one after another, each with its own bytes', async () => {
  const { sequence } = watched();
  for (const [label, bytes] of [
    ['a', 10],
    ['b', 0],
    ['c', BLOCK_BYTES + 1],
  ] as const) {
    sequence.begin(label);
    if (bytes > 0) append(sequence, bytes, label.charCodeAt(0));
  }
  sequence.end();
  expect(await readAll(await sequence.next())).toEqual(['a', 10, 97]);
  expect(await readAll(await sequence.next())).toEqual(['b', 0, -1]);
  expect(await readAll(await sequence.next())).toEqual(['c', BLOCK_BYTES + 1, 99]);
  expect(await sequence.next()).toBeUndefined();
});

test('the source is held up by a stream that nobody has come to, and by one that is full', async () => {
  const { sequence, isHeld } = watched();
  sequence.begin('a');
  expect(isHeld()).toBe(true);
  const a = await sequence.next();
  expect(isHeld()).toBe(false);
  append(sequence, 2 * BLOCK_BYTES, 1);
  expect(isHeld()).toBe(true);
  await a?.queue.next();
  expect(isHeld()).toBe(false);
  sequence.begin('b');
  expect(isHeld()).toBe(true);
  // What is read of the stream before lets nothing more of this one come.
  await a?.queue.next();
  expect(await a?.queue.next()).toBeUndefined();
  expect(isHeld()).toBe(true);
  await sequence.next();
  expect(isHeld()).toBe(false);
});

test('a failure is thrown by the stream that has begun, and by what waits for the next one', async () => {
  const { sequence } = watched();
  sequence.begin('a');
  const a = await sequence.next();
  const waiting = a?.queue.next();
  sequence.fail(new Error('cut'));
  await expect(waiting).rejects.toThrow('cut');
  await expect(sequence.next()).rejects.toThrow('cut');
  sequence.end();
  await expect(sequence.next()).rejects.toThrow('cut');
});
