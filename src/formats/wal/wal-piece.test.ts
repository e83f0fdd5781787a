import { expect, test } from 'vitest';
import { bytesOf } from '../../../test/support/streams.ts';
import { madeSegment } from '../../../test/support/wal-bytes.ts';
import { pieceOf } from '../../../test/support/wal-pieces.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { generateAgeIdentity } from '../../pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../pipeline/encryption/age-sealer.ts';
import { SealedPiece } from './wal-piece.ts';

const SEGMENT = { timeline: 1, number: 7n };

test('what is sealed once is the same for each store, until its memory is given back', async () => {
  const { recipient } = await generateAgeIdentity();
  for (const sealer of [undefined, await ageSealer({ recipients: [recipient] })]) {
    const sealed = await SealedPiece.of(pieceOf(SEGMENT, madeSegment(SEGMENT)), sealer);
    const [one, other] = [await sealed.storeBy(bytesOf), await sealed.storeBy(bytesOf)];
    expect(one.equals(other)).toBe(true);
    expect(one.length).toBe(sealed.bytes);
    sealed.release();
    await expect(sealed.storeBy(bytesOf)).rejects.toThrow('detached');
  }
});

test('memory that somebody may still read who was given up is not used again', async () => {
  const sealed = await SealedPiece.of(pieceOf(SEGMENT, madeSegment(SEGMENT)), undefined);
  const before = await sealed.storeBy(bytesOf);
  let reading: ByteStream | undefined;
  const refused = sealed.storeBy((body) => {
    reading = body;
    return Promise.reject(new Error('it refuses'));
  });
  await expect(refused).rejects.toThrow('it refuses');
  sealed.release();
  expect(reading && (await bytesOf(reading)).equals(before)).toBe(true);
});
