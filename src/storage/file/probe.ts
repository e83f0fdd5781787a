import { rm } from 'node:fs/promises';
import { probeKey, objectPath } from './layout.ts';
import type { PublishSettings } from './publish.ts';
import { storeSmall } from './small.ts';

/**
 * Tries conditional writes for real, on a hidden file: of two racing creates one must lose, an update must find the
 * object it saw, and an outdated one must be refused. What it needs is what every write and delete needs. Raw system errors.
 */
export async function tryConditions(root: string, settings: PublishSettings, signal?: AbortSignal): Promise<boolean> {
  const key = probeKey(settings.random);
  const store = (text: string, condition: Parameters<typeof storeSmall>[3]): ReturnType<typeof storeSmall> =>
    storeSmall(root, key, new TextEncoder().encode(text), condition, settings, signal);
  try {
    const creates = await Promise.all([store('one', { ifAbsent: true }), store('two', { ifAbsent: true })]);
    const [created, ...others] = creates.filter((info) => info !== undefined);
    if (created === undefined || others.length > 0) return false;
    const updated = await store('three', { ifMatch: created.etag });
    const outdated = await store('four', { ifMatch: created.etag });
    return updated !== undefined && outdated === undefined;
  } finally {
    await rm(objectPath(root, key), { force: true });
  }
}
