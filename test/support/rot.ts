import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import type { DecryptionKeys } from '../../src/pipeline/encryption/sealer.ts';
import { errorOf } from './destinations.ts';
import type { MemoryStore } from './memory-store.ts';
import { restoreServer } from './physical.ts';

/** Where of an object a bit is turned: near its beginning, in its middle, at its end. */
const PLACES: readonly number[] = [0.02, 0.5, 1];

export interface RottenObject {
  readonly key: string;
  readonly place: number;
  /** What is wrong with what was made of it. */
  readonly failure: string;
}

/**
 * Turns a bit of each object that matches, one after another, and tries to restore the newest backup each time. Returns those
 * whose damage was not told by their names, by the restore and by `verify`, or after which anything of the target is there.
 * `placesEach`: how many places of each object are tried; by default they take turns.
 */
export async function rotten(
  store: MemoryStore,
  keys: DecryptionKeys,
  directory: string,
  { matches, placesEach = 1 }: { readonly matches: (key: string) => boolean; readonly placesEach?: number },
): Promise<readonly RottenObject[]> {
  const found: RottenObject[] = [];
  const objects = [...store.objects].filter(([each]) => matches(each));
  for (const [index, [key, entry]] of objects.entries()) {
    for (let turn = 0; turn < placesEach; turn += 1) {
      const place = PLACES[(index + turn) % PLACES.length] ?? 1;
      const bytes = Uint8Array.from(entry.bytes);
      const at = Math.min(bytes.length - 1, Math.floor(bytes.length * place));
      bytes[at] = (bytes[at] ?? 0) ^ 0x01;
      store.objects.set(key, { ...entry, bytes });
      try {
        const failure = await failureOf(store, keys, directory, key);
        if (failure !== undefined) found.push({ key, place, failure });
      } finally {
        store.objects.set(key, entry);
      }
    }
  }
  return found;
}

async function failureOf(
  store: MemoryStore,
  keys: DecryptionKeys,
  directory: string,
  key: string,
): Promise<string | undefined> {
  const error = await errorOf(restoreServer(store, directory, { keys }));
  if (!error.message.includes(key)) return `the restore says ${error.code}: ${error.message}`;
  if ((await readdir(path.dirname(directory))).includes(path.basename(directory))) return 'something is left of it';
  const request = { store, filter: {}, selector: undefined, deep: true, keys };
  const { backups } = await verify(request, operationContext());
  const told = backups.map(({ failure }) => String(failure?.message ?? failure)).join();
  return told.includes(key) ? undefined : `verify says ${told}`;
}
