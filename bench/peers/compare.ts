import { mkdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { formatBytes, MIB } from '../../src/common/bytes.ts';
import { messageOf } from '../../src/common/errors.ts';
import { type Measurement, measure } from '../measure.ts';
import { type Entrant, entrants, isOwn } from './entrants.ts';
import { makePeerPlace, type PeerPlace, type PeerStore } from './peer-place.ts';
import type { Missing, PeerRun, Size } from './results.ts';

export interface CompareOptions {
  readonly sizes: readonly { readonly name: string; readonly bytes: number }[];
  readonly rounds: number;
  /** Usual number of sessions or processes. */
  readonly jobs: number;
  /** Further numbers, tried at one size. */
  readonly otherJobs: readonly number[];
  readonly jobsSize: string;
  readonly only: readonly string[] | undefined;
  /** After this time no further round begins, except the first of a size. */
  readonly minutesMax: number;
  readonly binDir: string | undefined;
  /** Those that are not installed, with the reason. */
  readonly missing: readonly Missing[];
}

export interface Compared {
  readonly sizes: readonly Size[];
  readonly runs: readonly PeerRun[];
  readonly missing: readonly Missing[];
}

/** Lets all contenders back up and restore, in turn, round by round, size by size; tells of each run on stderr. */
export async function compare(store: PeerStore, options: CompareOptions): Promise<Compared> {
  const beginMs = performance.now();
  const minutes = (): number => (performance.now() - beginMs) / 60_000;
  const missing = [...options.missing];
  const [sizes, runs]: [Size[], PeerRun[]] = [[], []];
  for (const { name: size, bytes } of options.sizes) {
    console.error(`making a database of about ${formatBytes(bytes)} of SQL`);
    await using place = await makePeerPlace({ store, sqlBytes: bytes, binDir: options.binDir });
    const rows = await place.countRows(place.env['PGDATABASE'] ?? '');
    let [round, longestMinutes] = [0, 0];
    while (round < options.rounds && (round === 0 || minutes() + longestMinutes < options.minutesMax)) {
      round += 1;
      const before = minutes();
      for (const entrant of entrants) {
        if (options.only?.includes(entrant.name) === false) continue;
        const variants = !entrant.hasJobs
          ? [undefined]
          : [options.jobs, ...(size === options.jobsSize ? options.otherJobs : [])];
        for (const jobs of variants) {
          if (missing.some(({ name }) => name === entrant.name)) continue;
          try {
            const run = await backUpAndRestore(place, store, { entrant, jobs, rows });
            runs.push({ size, round, name: entrant.name, ...(jobs === undefined ? {} : { jobs }), ...run });
          } catch (error) {
            if (isOwn(entrant.name) || !(error instanceof RunFailure)) throw error;
            // A contender that cannot run here is told of, and the others are still measured.
            missing.push({ name: entrant.name, why: `it failed: ${reasonOf(error)}` });
            console.error(`${entrant.label}: ${messageOf(error)}`);
          }
        }
      }
      longestMinutes = Math.max(longestMinutes, minutes() - before);
    }
    const { sqlBytes, databaseBytes } = place;
    sizes.push({ name: size, sqlBytes, databaseBytes, rounds: round, wanted: options.rounds });
  }
  return { sizes, runs: runs.filter(({ name }) => !missing.some((each) => each.name === name)), missing };
}

/** The last line that it wrote. */
function reasonOf(error: unknown): string {
  return messageOf(error).trim().split('\n').at(-1)?.slice(0, 200) ?? '';
}

/** One of a contender's own commands failed, or did not do what it is for. */
class RunFailure extends Error {}

interface Turn {
  readonly entrant: Entrant;
  readonly jobs: number | undefined;
  /** That a restored database has to hold. */
  readonly rows: number;
}

let bucketsMade = 0;

async function backUpAndRestore(
  place: PeerPlace,
  store: PeerStore,
  { entrant, jobs, rows }: Turn,
): Promise<Pick<PeerRun, 'backup' | 'restore' | 'storedBytes'>> {
  bucketsMade += 1;
  const [bucket, target] = [`bench-${bucketsMade}`, 'restored'];
  const [scratch, restored] = [path.join(place.folder, 'scratch'), path.join(place.folder, 'restored')];
  await mkdir(scratch, { recursive: true });
  await store.createBucket(bucket);
  const step = (script: string): Promise<Measurement> =>
    measure(place, {
      program: 'bash',
      args: ['-c', `set -euo pipefail; ${script}`],
      env: {
        ...place.env,
        ...pgBackRestOf(place, scratch),
        ...entrant.env,
        BUCKET: bucket,
        SCRATCH: scratch,
        RESTORED: restored,
        TARGET: target,
        JOBS: String(jobs ?? 1),
      },
    }).catch((error: unknown) => {
      throw new RunFailure(messageOf(error), { cause: error });
    });
  try {
    if (entrant.prepare !== undefined) await step(entrant.prepare);
    const backup = await step(entrant.backup);
    const storedBytes = await store.bytesIn(bucket);
    if (entrant.between !== undefined) await step(entrant.between);
    const restore = await step(entrant.restore);
    await check(place, entrant, { target, restored, rows });
    const title = jobs === undefined ? entrant.label : `${entrant.label}, ${jobs} jobs`;
    console.error(`${title}: ${told(backup)}, ${(storedBytes / MIB).toFixed(0)} MiB stored; back: ${told(restore)}`);
    return { backup, restore, storedBytes };
  } finally {
    await place.dropDatabase(target);
    for (const each of [scratch, restored, place.env['ARCHIVE'] ?? scratch])
      await rm(each, { recursive: true, force: true });
    await store.removeBucket(bucket);
  }
}

function told({ wallS, clientCpuS, rssKib }: Measurement): string {
  return `${wallS.toFixed(1)} s, ${clientCpuS.toFixed(1)} s of CPU, ${(rssKib / 1024).toFixed(0)} MiB`;
}

/** Where its server is, and folders of its own. */
function pgBackRestOf(place: PeerPlace, scratch: string): Readonly<Record<string, string>> {
  return {
    PGBACKREST_PG1_PATH: place.env['DATA'] ?? '',
    PGBACKREST_PG1_SOCKET_PATH: place.env['PGHOST'] ?? '',
    PGBACKREST_PG1_PORT: place.env['PGPORT'] ?? '',
    PGBACKREST_LOCK_PATH: path.join(scratch, 'lock'),
    PGBACKREST_SPOOL_PATH: path.join(scratch, 'spool'),
  };
}

/** Nobody's restore counts that brought something else back. */
async function check(
  place: PeerPlace,
  entrant: Entrant,
  { target, restored, rows }: { readonly target: string; readonly restored: string; readonly rows: number },
): Promise<void> {
  if (entrant.kind === 'physical') {
    const { size } = await stat(path.join(restored, 'global', 'pg_control'));
    if (size === 0) throw new RunFailure(`${entrant.label} restored an empty control file`);
    return;
  }
  const found = await place.countRows(target);
  if (found !== rows) throw new RunFailure(`${entrant.label} restored ${found} rows of ${rows}`);
}
