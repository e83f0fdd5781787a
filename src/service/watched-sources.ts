import type { Config, SourceConfig } from '../config/model.ts';

/**
 * Since when sources have been wanted as they are, from one configuration of a process to the next: a reload that changes
 * nothing for a source gives what was never done no further time.
 */
export class WatchedSources {
  readonly #wantedOf: (source: SourceConfig) => string;
  #known: ReadonlyMap<string, { readonly wanted: string; readonly since: Date }> = new Map();

  /** `wantedOf`: what a deadline follows from. */
  constructor(wantedOf: (source: SourceConfig) => string) {
    this.#wantedOf = wantedOf;
  }

  /** By the sources' names, once this configuration is in effect. */
  since(config: Pick<Config, 'databases'>, now: Date): ReadonlyMap<string, Date> {
    const known = [...config.databases.values()].map((source) => {
      const wanted = this.#wantedOf(source);
      const before = this.#known.get(source.name);
      return [source.name, { wanted, since: before?.wanted === wanted ? before.since : now }] as const;
    });
    this.#known = new Map(known);
    return new Map(known.map(([name, { since }]) => [name, since]));
  }
}

/** As backups. */
export function wantedBackups({ connection, databases, expect, jobs }: SourceConfig): string {
  const plans = [...jobs.values()].map(({ name, format, to, schedule, jitterMs }) => [
    name,
    format,
    to,
    schedule,
    jitterMs,
  ]);
  return JSON.stringify([databases ?? connection.database, expect?.maxAgeMs, plans]);
}

/** As WAL that is archived. */
export function wantedWal({ connection: { host, port }, wal }: SourceConfig): string {
  return JSON.stringify([host, port, wal?.slot, wal?.to]);
}
