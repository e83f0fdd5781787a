import type { Session } from '../client/connect.ts';

/** What makes incremental backups possible, or not. */
export interface IncrementalFacts {
  /** Undefined where the server does not know the setting: before PostgreSQL 17. */
  readonly summarizesWal: boolean | undefined;
  /** Size of its blocks. */
  readonly blockBytes: number;
}

export async function readIncrementalFacts(session: Session): Promise<IncrementalFacts> {
  const [row] = await session.query<{ summarizes: string | null; block: number }>(
    `select current_setting('summarize_wal', true) as summarizes, current_setting('block_size')::int as block`,
  );
  const summarizes = row?.summarizes ?? undefined;
  return {
    summarizesWal: summarizes === undefined ? undefined : summarizes === 'on',
    blockBytes: row?.block ?? 0,
  };
}

/**
 * Whether the server's summaries of WAL reach back to this position of a timeline without a gap, as far as there are any: a
 * summarizer that has not come there yet will. PostgreSQL 17 and newer.
 */
export async function haveSummariesSince(
  session: Session,
  { timeline, lsn }: { readonly timeline: number; readonly lsn: string },
): Promise<boolean> {
  const [row] = await session.query<{ whole: boolean }>(
    `select coalesce(bool_and(start_lsn <= coalesce(reached, $1::pg_lsn)), true) as whole
       from (select start_lsn,
                    max(end_lsn) over (order by start_lsn, end_lsn rows between unbounded preceding and 1 preceding) as reached
               from pg_available_wal_summaries()
              where tli = $2::int8 and end_lsn > $1::pg_lsn) as summaries`,
    [lsn, timeline],
  );
  return row?.whole === true;
}
