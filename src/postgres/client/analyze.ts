import { inParallel } from '../../common/in-parallel.ts';
import { messageOf } from '../../common/errors.ts';
import type { Session } from './connect.ts';
import { withSession } from './with-session.ts';

/** What ANALYZE of a whole database looks at, the largest first. Partitions come with the table that they are of. */
const TABLES_SQL = `select format('%I.%I', n.nspname, c.relname) as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm', 'p') and not c.relispartition and c.relpersistence <> 't'
  order by case c.relkind when 'p' then (select sum(pg_relation_size(relid)) from pg_partition_tree(c.oid))
    else pg_relation_size(c.oid) end desc nulls last`;

type Table = { readonly name: string };

export interface AnalyzeOptions {
  /** Opens a session in the database; as many as `sessionsMax` are in use at the same time. */
  readonly open: () => Promise<Session>;
  readonly sessionsMax: number;
  readonly signal: AbortSignal;
}

/** Tables that no statistics could be gathered of. */
export interface NotAnalyzed {
  readonly tables: number;
  /** The words of the first failure. */
  readonly why: string;
}

/**
 * Gathers the planner's statistics of every table of a database, by several sessions: fewer where the server gives no more. A
 * table that fails holds up no other. Rejects if there is no session at all, or with the signal's reason.
 */
export async function analyzeDatabase({ open, sessionsMax, signal }: AnalyzeOptions): Promise<NotAnalyzed | undefined> {
  let failed: NotAnalyzed | undefined;
  const analyze = async (session: Session, take: () => Table | undefined, stop: AbortSignal): Promise<void> => {
    for (let table = take(); table !== undefined; table = take()) {
      try {
        await session.query(`ANALYZE ${table.name}`);
      } catch (error) {
        stop.throwIfAborted();
        if (!session.alive) throw error;
        failed = { tables: (failed?.tables ?? 0) + 1, why: failed?.why ?? messageOf(error) };
      }
    }
  };
  await withSession(open(), signal, async (session) => {
    const tables = await session.query<Table>(TABLES_SQL);
    let first: Session | undefined = session;
    await inParallel(tables, sessionsMax, signal, async (take, stop) => {
      if (first !== undefined) {
        const own = first;
        first = undefined;
        return analyze(own, take, stop);
      }
      const further = await open().catch(() => undefined);
      if (further !== undefined) await withSession(Promise.resolve(further), stop, (own) => analyze(own, take, stop));
    });
  });
  return failed;
}
