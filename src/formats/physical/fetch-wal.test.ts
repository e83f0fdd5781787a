import { mkdir, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LOG_START, MadeLog, TABLESPACE, tablespaceData } from '../../../test/support/made-log.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { bytesOf } from '../../../test/support/streams.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { putTimelineHistory, putWalDelta, putWalFile } from '../wal/store-piece.ts';
import { checkSpan, fetchSpan, refuseTablespacesOf, segmentContent } from './fetch-wal.ts';
import { findSpan } from './needed-wal.ts';
import { TargetFolder } from './target-files.ts';

const { segmentBytes } = WAL_IDENTITY;
const SIZE = BigInt(segmentBytes);
const keys = { identities: [], passphrases: [] };
const signal = new AbortController().signal;
const third = { timeline: 1, number: 3n };
const fourth = { timeline: 1, number: 4n };

let directory: string;
beforeEach(async () => {
  directory = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-wal-')));
  await mkdir(path.join(directory, 'pg_wal'));
});
afterEach(async () => rm(directory, { recursive: true, force: true }));

test.each([
  ['amid a block of a segment that is archived whole', [[0, segmentBytes]], 400_001],
  ['between two blocks', [[0, segmentBytes]], 300_000],
  [
    'in a part that is not the last',
    [
      [0, 5_000],
      [5_000, 9_000],
      [9_000, 20_000],
    ],
    8_192,
  ],
  [
    'in parts that overlap',
    [
      [0, 5_000],
      [4_000, 9_000],
    ],
    8_999,
  ],
  ['with a segment', [[0, segmentBytes]], segmentBytes],
] as const)('a span holds nothing behind its end: %s', async (_, parts, end) => {
  const store = new MemoryStore();
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys };
  await putWalFile(place, pieceOf(third, madeSegment(third)));
  for (const [from, to] of parts) {
    const piece = pieceOf(fourth, madeSegment(fourth), from, to);
    await (piece.wal.kind === 'delta' ? putWalDelta(place, piece) : putWalFile(place, piece));
  }
  const span = { folder: WAL_FOLDER, timeline: 1, from: 3n * SIZE + 40n, to: 4n * SIZE + BigInt(end), segmentBytes };
  await fetchSpan(span, { store, keys, signal }, new TargetFolder(directory, undefined));
  const written = async (name: string): Promise<Buffer> => readFile(path.join(directory, 'pg_wal', name));
  expect((await written('000000010000000000000003')).equals(madeSegment(third))).toBe(true);
  const expected = Buffer.concat([madeSegment(fourth).subarray(0, end), Buffer.alloc(segmentBytes - end)]);
  expect((await written('000000010000000000000004')).equals(expected)).toBe(true);
  // What is downloaded is replayed up to its end too.
  const [, last] = await findSpan(store, span);
  expect(last && (await bytesOf(segmentContent(last, span, { store, keys, signal }))).equals(expected)).toBe(true);
});

test.each([
  ['as a whole', segmentBytes],
  ['in parts that overlap', 30_000],
])(
  'a span in which a tablespace is made at a path is refused before it is written, and where it is: %s',
  async (_, end) => {
    const log = new MadeLog();
    log.record(10, 0, Buffer.alloc(9_000));
    const made = log.record(TABLESPACE.manager, TABLESPACE.info, tablespaceData(16_400, '/srv/ts'));
    log.fillTo(segmentBytes);
    const bytes = log.bytes.subarray(0, segmentBytes);
    const store = new MemoryStore();
    const place = { store, folder: WAL_FOLDER, sealer: undefined, keys };
    if (end === segmentBytes) await putWalFile(place, pieceOf(third, bytes));
    else {
      await putWalDelta(place, pieceOf(third, bytes, 0, 20_000));
      await putWalDelta(place, pieceOf(third, bytes, 8_000, end));
    }
    // What is said of a later timeline is nothing to it.
    await putTimelineHistory(place, '00000002.history', Buffer.from('no history'));
    const span = { folder: WAL_FOLDER, timeline: 1, from: LOG_START + 40n, to: LOG_START + BigInt(end), segmentBytes };
    const access = { store, keys, signal };
    await expect(checkSpan(span, access)).rejects.toMatchObject({ code: 'corrupt' });
    const refused = { code: 'tablespace-path' };
    await expect(refuseTablespacesOf(span, access)).rejects.toMatchObject(refused);
    const target = new TargetFolder(directory, undefined);
    await expect(fetchSpan(span, access, target, { refusesTablespaces: true })).rejects.toMatchObject(refused);
    await refuseTablespacesOf({ ...span, from: made + 1n }, access);
    await rm(path.join(directory, 'pg_wal', '000000010000000000000003'));
    await fetchSpan(span, access, target);
  },
);
