import { isPgarkError } from '../../common/errors.ts';
import { RecordWalker } from './record-walker.ts';
import type { SegmentContent } from './segment-content.ts';
import { segmentStart } from './segment.ts';

/** Records begin at multiples of it, with their length: where the last of these is not zero, no end is before it. */
const LENGTH_BYTES = 8;

/**
 * How many of its first bytes are records for sure, where the content is the file of a segment that its server has not finished:
 * a file has its length before it is written, and holds zeros or an older segment behind its records. Undefined for a segment that
 * is finished, as it is where a record goes on in the next one, or behind a switch; and for one that is damaged in its midst, of
 * which nobody can tell.
 */
export function unfinishedBytes(content: SegmentContent): number | undefined {
  const { unwrittenFrom, isRecycled, filledBytes } = content;
  const writtenBytes = unwrittenFrom ?? filledBytes;
  if (!isRecycled) {
    // Most are full, and need not be read once more.
    if (unwrittenFrom === undefined && !isEmpty(content, filledBytes - LENGTH_BYTES, filledBytes)) return undefined;
    const { walker, isSound } = walk(content, writtenBytes);
    const isFull = unwrittenFrom === undefined && !walker.isAtEnd;
    if (!isSound || walker.isSwitched || isFull) return undefined;
  }
  const { last } = walk(content, writtenBytes, { checksums: true }).walker;
  return last === undefined ? 0 : Number(last.end - startOf(content));
}

function walk(
  content: SegmentContent,
  bytes: number,
  options: { readonly checksums?: boolean } = {},
): { readonly walker: RecordWalker; readonly isSound: boolean } {
  const walker = new RecordWalker(startOf(content), content.filledBytes, options);
  try {
    for (const view of content.views(0, bytes)) walker.push(view);
    return { walker, isSound: true };
  } catch (error) {
    if (!isPgarkError(error, 'corrupt')) throw error;
    return { walker, isSound: false };
  }
}

function isEmpty(content: SegmentContent, from: number, to: number): boolean {
  for (const view of content.views(from, to)) if (view.some((byte) => byte !== 0)) return false;
  return true;
}

function startOf({ segment, filledBytes }: SegmentContent): bigint {
  return segmentStart(segment, filledBytes);
}
