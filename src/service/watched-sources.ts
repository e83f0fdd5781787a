import type { Config, SourceConfig } from '../config/model.ts';

/**
 * Since when sources have been wanted as they are, from one configuration of a process to the next: a reload that changes
 * nothing for a source gives a backup that was never made no further time.
 */
export class WatchedSources {
  #known: ReadonlyMap<string, { readonly wanted: string; readonly since: Date }> = new Map();

  /** By the sources' names, once this configuration is in effect. */
  since(config: Pick<Config, 'databases'>, now: Date): ReadonlyMap<string, Date> {
    const known = [...config.databases.values()].map((source) => {
      const wanted = wantedOf(source);
      const before = this.#known.get(source.name);
      return [source.name, { wanted, since: before?.wanted === wanted ? before.since : now }] as const;
    });
    this.#known = new Map(known);
    return new Map(known.map(([name, { since }]) => [name, since]));
  }
}

/** What a deadline follows from. */
function wantedOf({ connection, databases, expect, jobs }: SourceConfig): string {
  const plans = [...jobs.values()].map(({ name, format, to, schedule, jitterMs }) => [
    name,
    format,
    to,
    schedule,
    jitterMs,
  ]);
  return JSON.stringify([databases ?? connection.database, expect?.maxAgeMs, plans]);
}
