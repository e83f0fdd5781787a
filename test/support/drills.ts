import { chmod, readdir } from 'node:fs/promises';
import { expect } from 'vitest';
import { operationContext } from '../../src/operations/context.ts';
import { drill } from '../../src/operations/drill/drill.ts';
import type { DrillOutcome, DrillRequest } from '../../src/operations/drill/drill-request.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { makeTempDirectory, type TempDirectory } from './temp.ts';

/** Where servers of drills live and leave nothing; the account that they run under gets in. */
export async function workFolder(): Promise<TempDirectory & { expectEmpty(): Promise<void> }> {
  const folder = await makeTempDirectory();
  await chmod(folder.path, 0o755);
  return { ...folder, expectEmpty: async () => expect(await readdir(folder.path)).toEqual([]) };
}

/** The newest backup of the store, as the library drills it. */
export function drillIn(
  store: ObjectStore,
  work: Pick<TempDirectory, 'path'>,
  changes: Partial<DrillRequest> = {},
  context: Parameters<typeof operationContext>[0] = {},
): Promise<DrillOutcome> {
  return drill(
    {
      store,
      filter: {},
      selector: { kind: 'latest' },
      keys: { identities: [], passphrases: [] },
      assertions: [],
      scratch: { kind: 'own', workFolder: work.path },
      jobs: 2,
      ...changes,
    },
    operationContext(context),
  );
}

/** Proofs of drills, the oldest first. */
export async function proofsIn(store: ObjectStore): Promise<readonly Record<string, unknown>[]> {
  const proofs: Record<string, unknown>[] = [];
  for await (const { key } of store.list('.pgark/proofs/')) {
    if (!key.endsWith('.drill.json')) continue;
    const chunks: Uint8Array[] = [];
    for await (const chunk of (await store.get(key)).body) chunks.push(chunk);
    proofs.push(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>);
  }
  return proofs.sort((a, b) => (String(a['at']) < String(b['at']) ? -1 : 1));
}
