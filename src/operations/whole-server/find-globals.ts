import { PgarkError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { type GlobalsRecord, listGlobals } from '../../repository/globals.ts';
import { keys } from '../../repository/keys.ts';
import { globalsAt } from '../../retention/globals.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';
import type { Place } from '../find-across.ts';
import { lookEverywhere } from './look-everywhere.ts';

/** Which globals are meant: the newest, the newest not after a time, those that go with a backup that began at a time, or one by id. */
export type GlobalsSelector =
  | { readonly kind: 'latest' }
  | { readonly kind: 'at'; readonly time: Date }
  | { readonly kind: 'with'; readonly begunAt: Date }
  | { readonly kind: 'id'; readonly id: string };

export interface FoundGlobals {
  readonly record: GlobalsRecord;
  readonly storage: string;
  readonly store: ObjectStore;
}

/**
 * Finds globals in all places, and tells of those that cannot be read: they may be the newest. `source` undefined: of the only
 * source that has any; `logsPassedOver` false: a storage that is away was told of before. Errors: `backup-not-found`, `usage` where
 * there are several sources, `store-…` where no place answers.
 */
export async function findGlobals(
  places: readonly Place[],
  source: string | undefined,
  selector: GlobalsSelector,
  context: OperationContext,
  { logsPassedOver = true }: { readonly logsPassedOver?: boolean } = {},
): Promise<FoundGlobals> {
  const { signal } = context;
  const looking = logsPassedOver ? context : { ...context, logger: silentLogger };
  const looks = await lookEverywhere(places, (store) => listGlobals(store, {}, { signal }), looking);
  const wanted = source === undefined ? keys.globalsRecordsPrefix : keys.globalsRecordsOf(source);
  for (const { key, error } of looks.flatMap(({ value }) => value.damaged)) {
    if (key.startsWith(wanted)) context.logger.warning('globals.damaged', `${key}: ${error.message}`, { key });
  }
  const all = looks.flatMap(({ name, store, value: { records } }) =>
    records.map((record) => ({ record, storage: name, store, takenAt: new Date(record.storeTime) })),
  );
  const ofSource =
    selector.kind === 'id' ? all : all.filter(({ record }) => source === undefined || record.source === source);
  const sources = [...new Set(ofSource.map(({ record }) => record.source))];
  if (selector.kind !== 'id' && sources.length > 1) throw severalSources(sources);
  const found = choose(ofSource, selector);
  if (found !== undefined) return found;
  const named = source === undefined ? '' : ` of ${source}`;
  const others = [...new Set(all.map(({ record }) => record.source))];
  throw new PgarkError(
    'backup-not-found',
    selector.kind === 'id'
      ? `there are no globals ${selector.id}`
      : selector.kind === 'at' && ofSource.length > 0
        ? `no roles and tablespaces${named} are stored that are as old as ${selector.time.toISOString()}`
        : `no roles and tablespaces${named} are stored`,
    {
      hint:
        others.length > 0
          ? `there are some of ${others.join(', ')}; pgark list shows them`
          : 'they are stored beside the backups where globals is auto or no-passwords (BACKUP_GLOBALS)',
    },
  );
}

export function severalSources(sources: readonly string[]): PgarkError {
  return new PgarkError('usage', `there are ${sources.length} servers in the storage: ${sources.join(', ')}`, {
    hint: 'say which one, before the options: pgark restore SOURCE …',
  });
}

interface Dated extends FoundGlobals {
  readonly takenAt: Date;
}

function choose(all: readonly Dated[], selector: GlobalsSelector): FoundGlobals | undefined {
  const oldestFirst = all.toSorted((a, b) => a.takenAt.getTime() - b.takenAt.getTime());
  switch (selector.kind) {
    case 'latest':
      return oldestFirst.at(-1);
    case 'at':
      return oldestFirst.findLast(({ record }) => Date.parse(record.startedAt) <= selector.time.getTime());
    case 'with':
      return globalsAt(oldestFirst, selector.begunAt);
    case 'id':
      return oldestFirst.find(({ record }) => record.id === selector.id);
    default:
      return selector satisfies never;
  }
}
