import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { putWalDelta, putWalFile } from '../../formats/wal/store-piece.ts';
import { segmentName } from '../../postgres/wal/segment.ts';
import { operationContext } from '../context.ts';
import { readAhead } from './read-ahead.ts';

const { segmentBytes } = WAL_IDENTITY;
const keys = { identities: [], passphrases: [] };

test('without a record of the archive segments lie ready all the same, up to the beginning of the newest', async () => {
  await using directory = await makeTempDirectory();
  const store = new MemoryStore();
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys };
  const [whole, newest] = [
    { timeline: 1, number: 7n },
    { timeline: 1, number: 8n },
  ];
  await putWalFile(place, pieceOf(whole, madeSegment(whole)));
  await putWalDelta(place, pieceOf(newest, madeSegment(newest), 0, 8_000));
  const first = segmentName(whole, segmentBytes);
  const request = {
    ...WAL_FOLDER,
    stores: [{ name: 'only', store }],
    keys,
    first,
    folder: directory.path,
    isWanted: async () => true,
  };
  await readAhead(request, operationContext());
  expect((await readdir(directory.path)).sort()).toEqual([first, segmentName(newest, segmentBytes), 'failed']);
  expect((await readFile(directory.join(first))).equals(madeSegment(whole))).toBe(true);
});
