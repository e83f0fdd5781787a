// The digest thread itself: see `digest-thread.ts`, which starts it.
import { createHash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { letThisThreadGiveWay } from '../common/thread-priority.ts';
import type { Answer, Request } from './digest-thread.ts';

letThisThreadGiveWay();

/** Of the streams that have a digest under way. */
const hashes = new Map<number, Hash>();

// What cannot be read is never answered: better no thread than one that is waited for.
parentPort?.on('messageerror', (error: Error) => {
  throw error;
});
parentPort?.on('message', (request: Request) => {
  const { id, stream, memory } = request;
  const digests: string[] = [];
  const end = (hash: Hash | undefined): void => {
    hashes.delete(stream);
    if (hash !== undefined) digests.push(hash.digest('hex'));
  };
  if (memory === undefined) end(hashes.get(stream));
  else {
    const bytes = new Uint8Array(memory);
    for (const { from, to, isLast } of request.spans) {
      const hash = hashes.get(stream) ?? createHash('sha256');
      hash.update(bytes.subarray(from, to));
      if (isLast) end(hash);
      else hashes.set(stream, hash);
    }
  }
  parentPort?.postMessage({ id, memory, digests } satisfies Answer, memory === undefined ? [] : [memory]);
});
