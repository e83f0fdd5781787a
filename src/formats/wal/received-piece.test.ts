import { expect, test } from 'vitest';
import { MIB } from '../../common/bytes.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import { SMALL_OBJECT_BYTES_MAX } from '../../storage/object-store.ts';
import { deltasOf } from './received-piece.ts';

test('what was received of a segment goes into deltas that each fit a small object', () => {
  const received = { from: 8_192, to: 13 * MIB } as ReceivedWal;
  const parts = [...deltasOf(received)].map(({ from, to }) => ({ from, to }));
  expect(parts[0]?.from).toBe(received.from);
  expect(parts.at(-1)?.to).toBe(received.to);
  expect(parts.slice(1).map(({ from }) => from)).toEqual(parts.slice(0, -1).map(({ to }) => to));
  // Without room for compression, and with what encryption and the facts add.
  for (const { from, to } of parts) expect(to - from).toBeLessThanOrEqual(SMALL_OBJECT_BYTES_MAX / 2);
});
