import { inParallel } from '../../common/in-parallel.ts';
import { messageOf } from '../../common/errors.ts';
import { MIB } from '../../common/bytes.ts';
import { type Row, type Session, sqlStateOf } from './connect.ts';
import { withSession } from './with-session.ts';

/** Since PostgreSQL 18 a table can be analyzed without its partitions and those that inherit from it. */
const ONLY_SINCE = 180_000;

/**
 * What ANALYZE of a whole database looks at, the largest first. Where it cannot be told to leave them alone, partitions come
 * with the table that they are of. Sizes are asked so that no lock is kept.
 */
const TABLES_SQL = `with listed as (
    select c.oid, coalesce(pg_partition_root(c.oid), c.oid) as root, n.nspname, c.relname,
      pg_relation_size(c.oid) as bytes, has_schema_privilege(n.oid, 'USAGE') as usable,
      current_setting('server_version_num')::int >= ${ONLY_SINCE} as alone
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't')
  select format('%s%I.%I', case when alone then 'ONLY ' end, nspname, relname) as name, usable,
    (case when alone then bytes else sum(bytes) over (partition by root) end)::float8 as bytes
  from listed where alone or root = oid
  order by bytes desc nulls last`;

interface Table {
  /** As ANALYZE takes it. */
  readonly name: string;
  readonly usable: boolean;
  readonly bytes: number | null;
}

/** Of tables that are worth a further session. */
const SESSION_BYTES = 16 * MIB;
/** Undefined table, and schema: they were dropped meanwhile. */
const GONE: readonly unknown[] = ['42P01', '3F000'];

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
 * Gathers the planner's statistics of every table of a database, by several sessions where that is worth it and the server
 * gives them. A table that fails holds up no other. Where a schema may not be used, it is left to the server, which looks at what
 * the role may by other rules. Rejects if there is no session at all, or with the signal's reason.
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
        if (GONE.includes(sqlStateOf(error))) continue;
        failed = { tables: (failed?.tables ?? 0) + 1, why: failed?.why ?? messageOf(error) };
      }
    }
  };
  await withSession(open(), signal, async (session) => {
    const tables = await session.query<Table & Row>(TABLES_SQL);
    if (tables.some(({ usable }) => !usable)) {
      await session.query('ANALYZE');
      return;
    }
    const bytes = tables.reduce((sum, table) => sum + (table.bytes ?? 0), 0);
    const sessions = Math.min(sessionsMax, Math.ceil(bytes / SESSION_BYTES));
    let first: Session | undefined = session;
    await inParallel(tables, Math.max(1, sessions), signal, async (take, stop) => {
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
