import { formatBytes } from '../common/bytes.ts';
import { isPgarkError, messageOf } from '../common/errors.ts';
import { readAcceptedSizes } from '../repository/accepted-sizes.ts';
import { isBackupId, isIncrementalId, type BackupId } from '../repository/ids.ts';
import { type Manifest, sizesOf, type Suspicion } from '../repository/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import type { CallOptions } from '../storage/object-store.ts';

/** What size a full backup is expected to have: before compression and encryption, which are no change of the data. */
export interface SizeExpectation {
  readonly minBytes?: number | undefined;
  /** By how much of its size it may differ from the last good one, up or down: 0.4 for 40 percent. */
  readonly changeRatioMax?: number | undefined;
}

/** What the size of a new backup is compared with. */
export type EarlierSize =
  | { readonly kind: 'none' }
  | { readonly kind: 'known'; readonly id: string; readonly plainBytes: number }
  /** What is there could not be read, `why` in words. */
  | { readonly kind: 'unread'; readonly why: string };

/** Backups that are compared with one another: of one form too, since the forms of one database differ in size. */
interface ComparedSeries {
  readonly source: string;
  readonly database: string;
  readonly format: Manifest['format'];
}

/**
 * Judges the size of one backup in each of its destinations, by what lies there: histories differ, and what is pruned by it is
 * that storage's own.
 */
export class SizeJudge {
  readonly #expected: SizeExpectation;
  readonly #series: ComparedSeries;
  readonly #earlier = new Map<string, EarlierSize>();

  constructor(expected: SizeExpectation, series: ComparedSeries) {
    this.#expected = expected;
    this.#series = series;
  }

  /** Reads what the backup in the destination of this name is to be compared with. Its failure never stops a backup. */
  async recall(name: string, repository: Repository, { signal }: Required<CallOptions>): Promise<void> {
    if (this.#expected.changeRatioMax === undefined) return;
    try {
      this.#earlier.set(name, await lastGoodSize(repository, this.#series, { signal }));
    } catch (error) {
      signal.throwIfAborted();
      this.#earlier.set(name, { kind: 'unread', why: messageOf(error) });
    }
  }

  /** Why the backup there is suspicious. What an incremental one holds is as much as was changed: it has no size to expect. */
  judge(name: string, id: BackupId, plainBytes: number): readonly Suspicion[] {
    if (isIncrementalId(id)) return [];
    return judgeSize(plainBytes, this.#earlier.get(name) ?? { kind: 'none' }, this.#expected);
  }
}

/** Pure. What cannot be compared is suspicious: nothing may be deleted for a backup of which nobody knows whether it is whole. */
export function judgeSize(plainBytes: number, earlier: EarlierSize, expected: SizeExpectation): readonly Suspicion[] {
  const { minBytes, changeRatioMax } = expected;
  const suspicions: Suspicion[] = [];
  const size = `${formatBytes(plainBytes)} before compression and encryption`;
  if (minBytes !== undefined && plainBytes < minBytes) {
    suspicions.push({
      rule: 'min_size',
      message: `${size} is less than the ${formatBytes(minBytes)} of expect.min_size`,
    });
  }
  if (changeRatioMax === undefined || earlier.kind === 'none') return suspicions;
  if (earlier.kind === 'unread') {
    const message = `its size could not be compared with that of the last good backup: ${earlier.why}`;
    return [...suspicions, { rule: 'size_change', message }];
  }
  const difference = Math.abs(plainBytes - earlier.plainBytes);
  if (difference > earlier.plainBytes * changeRatioMax) {
    const more = plainBytes > earlier.plainBytes ? 'more' : 'less';
    const message =
      `${size} is ${percent(difference / earlier.plainBytes)} ${more} than the ${formatBytes(earlier.plainBytes)} of ` +
      `${earlier.id}, and expect.size_change allows ${percent(changeRatioMax)}`;
    suspicions.push({ rule: 'size_change', message });
  }
  return suspicions;
}

/** `40%`, `99.8%` */
function percent(ratio: number): string {
  return `${Number((ratio * 100).toFixed(1))}%`;
}

/**
 * The size of the newest full backup of the series that is not suspicious, or was accepted. One that is named by a clock that was
 * ahead is none of them, nor is one whose manifest cannot be read. As a rule one LIST, and a GET for each that is looked at.
 */
async function lastGoodSize(
  repository: Repository,
  { source, database, format }: ComparedSeries,
  options: CallOptions,
): Promise<EarlierSize> {
  const series = { source, database };
  const letter = { plain: 'p', directory: 'd', physical: 'f' }[format];
  const isOfForm = ({ id }: { readonly id: string }): boolean => id.includes(`-${letter}`);
  const found = (await repository.newestKeys(series, options)).filter(isOfForm);
  let accepted: ReadonlySet<string> | undefined;
  for (const { key } of found) {
    const manifest = await manifestIfReadable(repository, key, options);
    if (manifest === undefined) continue;
    if (manifest.suspicions !== undefined) {
      accepted ??= await readAcceptedSizes(repository.store, options);
      if (!accepted.has(manifest.id)) continue;
    }
    return { kind: 'known', id: manifest.id, plainBytes: sizesOf(manifest).plainBytes };
  }
  // This machine's clock may be the wrong one, and then they are no less good than others.
  const looked = new Set(found.map(({ key }) => key));
  for await (const each of repository.manifestKeys(series, options)) {
    if (isBackupId(each.id) && isOfForm(each) && !looked.has(each.key)) {
      return {
        kind: 'unread',
        why: `${each.id} begins in the future, by the clocks of this machine and of the storage`,
      };
    }
  }
  return { kind: 'none' };
}

async function manifestIfReadable(
  repository: Repository,
  key: string,
  options: CallOptions,
): Promise<Manifest | undefined> {
  try {
    return await repository.manifestAt(key, options);
  } catch (error) {
    if (isPgarkError(error, 'repository-damaged') || isPgarkError(error, 'repository-unknown-layout')) return undefined;
    throw error;
  }
}
