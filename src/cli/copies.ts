import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { findAcross, finding, type FoundAcross, type Place, ruleOf } from '../operations/find-across.ts';
import type { BackupSelector } from '../operations/find-backup.ts';
import type { BackupId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import { failureOfStorages, failuresOf, type StorageFailure, type Try } from './attempt.ts';
import type { CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { reportChoice } from './find-storage.ts';
import { filterFor } from './list.ts';
import { text } from './option-text.ts';

interface Copies {
  readonly id: BackupId;
  readonly having: readonly {
    readonly name: string;
    readonly store: Awaited<ReturnType<Place['open']>>;
    readonly manifest: Manifest;
  }[];
  readonly away: readonly StorageFailure[];
}

/** What is looked for, as the command line says it. */
interface Sought {
  /** latest, an id or a file name. */
  readonly name: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** Why a dump of another tool will not do. */
  readonly refusal: { readonly why: string; readonly hint: string };
}

/** One backup, and where it lies: `latest` is the newest of all, and means that one wherever. Errors: those of `findAcross`. */
export async function findCopies(
  run: CommandRun,
  config: Config,
  places: readonly Place[],
  { name, options, refusal }: Sought,
): Promise<Copies> {
  const context = run.context(config);
  const selector: BackupSelector = name === 'latest' ? { kind: 'latest' } : { kind: 'name', name };
  // What is newest is looked for once, and then meant by its id.
  const rule = { ...ruleOf(selector), isLookedForAgain: false };
  const across = await findAcross(
    places,
    finding(selector, filterFor(config, text(options['database']))),
    rule,
    context,
  );
  const { found } = across.chosen;
  if (found.kind === 'foreign') {
    throw new PgarkError('backup-not-found', `${found.key} was written by another tool${refusal.why}`, {
      hint: refusal.hint,
    });
  }
  const { id } = found.manifest;
  if (places.length > 1) reportChoice(across, rule, run, config);
  const everywhere: FoundAcross = rule.isNamed
    ? across
    : await findAcross(places, finding({ kind: 'name', name: id }, {}), ruleOf({ kind: 'name' }), context);
  return {
    id,
    having: [everywhere.chosen, ...everywhere.others].flatMap(({ name: storage, store, found: each }) =>
      each.kind === 'own' ? [{ name: storage, store, manifest: each.manifest }] : [],
    ),
    away: everywhere.passedOver.map(({ name: storage, error }) => ({ storage, error })),
  };
}

/** The result of all storages. Errors: those of `failureOfStorages`. */
export function conclude<T>(
  run: CommandRun,
  id: BackupId,
  tries: readonly Try<T>[],
  tell: (value: T) => { readonly json: Readonly<Record<string, unknown>>; readonly words: string },
): void {
  const failures = failuresOf(tries);
  if (failures.length < tries.length) {
    run.result(
      {
        id,
        storages: tries.map((each) => ({
          storage: each.storage,
          ...('error' in each ? { state: 'failed', error: reportError(each.error) } : tell(each.value).json),
        })),
      },
      () =>
        tries
          .map((each) => {
            const words = 'error' in each ? `FAILED: ${each.error.message}` : tell(each.value).words;
            return tries.length === 1 ? `${words}\n` : `${each.storage}: ${words}\n`;
          })
          .join(''),
    );
  }
  const failure = failureOfStorages(run, failures, tries.length);
  if (failure !== undefined) throw failure;
}
