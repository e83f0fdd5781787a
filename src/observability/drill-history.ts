import { z } from 'zod';
import { isPgarkError } from '../common/errors.ts';
import { isBackupId } from '../repository/ids.ts';
import { keys, parseProofKey } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { decodeName } from '../repository/names.ts';
import { readState } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { EndedRun } from './run-tally.ts';

/** The last drill that passed, of backups of one format, of one database of a source. */
export interface DrillFacts {
  readonly source: string;
  readonly database: string;
  readonly format: Manifest['format'];
  readonly at: Date;
  readonly restoreMs: number;
}

/** By `drillKey`. */
export type DrillHistory = ReadonlyMap<string, DrillFacts>;

type Series = Pick<DrillFacts, 'source' | 'database' | 'format'>;

/** Proofs of a series that are read for one that passed; who fails as often has other worries. */
const TRIES_MAX = 20;
const FORMATS: Readonly<Record<string, Manifest['format']>> = {
  p: 'plain',
  d: 'directory',
  f: 'physical',
  i: 'physical',
};
const proofRecord = z.object({ at: z.iso.datetime(), passed: z.boolean(), restoreMs: z.number().optional() });

export function drillKey({ source, database, format }: Series): string {
  return JSON.stringify([source, database, format]);
}

/** What the proofs in a storage say. Once it is known, the records of runs tell what comes. Rejects with the store's error. */
export async function readDrills(store: ObjectStore, call: CallOptions): Promise<DrillHistory> {
  const proofs = new Map<string, { readonly series: Series; readonly keys: ObjectKey[] }>();
  for await (const { key } of store.list(keys.proofsPrefix, call)) {
    const series = seriesOfKey(key);
    if (series === undefined) continue;
    const known = proofs.get(drillKey(series)) ?? { series, keys: [] };
    known.keys.push(key);
    proofs.set(drillKey(series), known);
  }
  const drills = new Map<string, DrillFacts>();
  for (const [name, { series, keys: all }] of proofs) {
    for (const key of all.sort((a, b) => (timeOf(a) > timeOf(b) ? -1 : 1)).slice(0, TRIES_MAX)) {
      const proof = await readProof(store, key, call);
      if (proof?.passed !== true) continue;
      drills.set(name, { ...series, at: new Date(proof.at), restoreMs: proof.restoreMs ?? 0 });
      break;
    }
  }
  return drills;
}

/** The same with runs that ended since then. */
export function addDrills(drills: DrillHistory, runs: readonly EndedRun[]): DrillHistory {
  const all = new Map(drills);
  for (const { record, outcome } of runs) {
    const { kind, source, database, endedAt, result } = record;
    if (kind !== 'drill' || outcome !== 'succeeded' || source === undefined || database === undefined) continue;
    const format = Object.values(FORMATS).find((each) => each === result?.['format']);
    const restoreMs = result?.['restoreMs'];
    if (format === undefined || endedAt === undefined || typeof restoreMs !== 'number') continue;
    const facts = { source, database, format, at: new Date(endedAt), restoreMs };
    const known = all.get(drillKey(facts));
    if (known === undefined || known.at < facts.at) all.set(drillKey(facts), facts);
  }
  return all;
}

function seriesOfKey(key: ObjectKey): Series | undefined {
  const [source = '', database = '', id = ''] = key.slice(keys.proofsPrefix.length).split('/');
  const names = [decodeName(source), decodeName(database)] as const;
  const format = isBackupId(id) ? FORMATS[id.at(id.indexOf('-') + 1) ?? ''] : undefined;
  const { kind } = parseProofKey(key);
  if (kind !== 'drill' || names[0] === undefined || names[1] === undefined || format === undefined) return undefined;
  return { source: names[0], database: names[1], format };
}

function timeOf(key: ObjectKey): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

async function readProof(
  store: ObjectStore,
  key: ObjectKey,
  call: CallOptions,
): Promise<z.infer<typeof proofRecord> | undefined> {
  try {
    return (await readState(store, key, proofRecord, call))?.value;
  } catch (error) {
    // A proof that cannot be read proves nothing.
    if (isPgarkError(error, 'repository-damaged') || isPgarkError(error, 'repository-unknown-layout')) return undefined;
    throw error;
  }
}
