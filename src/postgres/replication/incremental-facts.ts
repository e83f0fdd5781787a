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

/** What the server's summaries say of a part of a timeline: they are cut wherever a recovery may begin. */
export interface SummaryBorders {
  /** Within the part and at both of its ends, ascending. */
  readonly borders: readonly string[];
  /** Whether any summary goes beyond the part's end: then all of its borders are there. */
  readonly isPassed: boolean;
}

/** PostgreSQL 17 and newer. */
export async function readSummaryBorders(
  session: Session,
  { timeline, from, to }: { readonly timeline: number; readonly from: string; readonly to: string },
): Promise<SummaryBorders> {
  const rows = await session.query<{ border: string; inside: boolean }>(
    `select border::text as border, border <= $2::pg_lsn as inside
       from (select start_lsn as border from pg_available_wal_summaries() where tli = $3::int8
             union select end_lsn from pg_available_wal_summaries() where tli = $3::int8) as all_of_them
      where border >= $1::pg_lsn order by all_of_them.border`,
    [from, to, timeline],
  );
  return {
    borders: rows.flatMap(({ border, inside }) => (inside ? [border] : [])),
    isPassed: rows.some(({ inside }) => !inside),
  };
}
