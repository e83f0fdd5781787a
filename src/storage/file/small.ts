import { once } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { ObjectInfo, ObjectKey, WriteCondition } from '../object-store.ts';
import { contentEtag, HASHED_BYTES_MAX, statEtag } from './inspect.ts';
import { discard, holds, type PublishSettings, publish } from './publish.ts';
import { finish, openUnfinished, writeStream } from './unfinished.ts';

/** How often a write begins anew because others took this process for dead and removed its claim. */
const ATTEMPTS_MAX = 5;

/** Stores the whole content in one step; undefined if the condition does not hold. Raw system errors. */
export async function storeSmall(
  root: string,
  key: ObjectKey,
  body: Uint8Array,
  condition: WriteCondition | undefined,
  settings: PublishSettings,
  signal?: AbortSignal,
): Promise<ObjectInfo | undefined> {
  const doing = `write the object ${JSON.stringify(key)}`;
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    signal?.throwIfAborted();
    // Looked at again under the claim; this look spares the loser of a race the write.
    if (!(await holds(root, key, condition))) return undefined;
    const { fileName, handle } = await openUnfinished(root, key, settings.random);
    let outcome: Awaited<ReturnType<typeof publish>>;
    let info: ObjectInfo;
    try {
      const stat = await (async () => {
        try {
          return await finish(handle, await writeStream(handle, once(body), doing), doing);
        } finally {
          await handle.close();
        }
      })();
      const etag = body.length <= HASHED_BYTES_MAX ? contentEtag(body) : statEtag(stat);
      info = { key, bytes: body.length, modified: new Date(Number(stat.mtimeNs / 1_000_000n)), etag };
      outcome = await publish({ root, key, fileName, inode: stat.ino }, condition, settings, signal);
    } finally {
      await discard(root, key, [fileName]);
    }
    if (outcome === 'published') return info;
    if (outcome === 'refused') return undefined;
  }
  throw new PgarkError(
    'store-failed',
    `cannot ${doing}: other processes keep removing the file before it is in place`,
    {
      hint: 'nothing but pgark may write to the storage directory; end what tidies it, then run the command again',
    },
  );
}
