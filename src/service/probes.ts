import type { Clock } from '../common/clock.ts';
import { asPgarkError, isPgarkError, PgarkError } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import type { Probe } from '../observability/protection-state.ts';
import { connect } from '../postgres/client/connect.ts';
import { keys } from '../repository/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { DatabaseChoice } from './database-patterns.ts';
import { chooseDatabases } from './databases.ts';
import { timeLimit, untilAborted } from './time-limit.ts';

/** A probe that takes longer has failed. */
const PROBE_MS_MAX = 10_000;
const CONNECT_SECONDS_MAX = 5;
const PROBES_IN_FLIGHT_MAX = 8;

/** A probe, and the error behind its failure. */
export interface Examined {
  readonly probe: Probe;
  readonly error?: PgarkError;
}

/** Of a source with patterns that answered, what they choose there now. */
export interface ExaminedSource extends Examined {
  readonly chosen?: DatabaseChoice | undefined;
}

export interface ProbeWorld {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Whether each source's server takes a connection and answers a query, and has databases that the source's patterns
 * choose. Rejects with the signal's reason only.
 */
export async function probeDatabases(
  sources: Iterable<SourceConfig>,
  world: ProbeWorld,
): Promise<readonly ExaminedSource[]> {
  const waiting = [...sources];
  const examined: ExaminedSource[] = [];
  for (let start = 0; start < waiting.length; start += PROBES_IN_FLIGHT_MAX) {
    const some = waiting.slice(start, start + PROBES_IN_FLIGHT_MAX);
    examined.push(...(await Promise.all(some.map((source) => probeSource(source, world)))));
  }
  return examined;
}

async function probeSource(source: SourceConfig, world: ProbeWorld): Promise<ExaminedSource> {
  const { name, databases: patterns } = source;
  const connectTimeoutSeconds = Math.min(
    CONNECT_SECONDS_MAX,
    source.connection.connectTimeoutSeconds ?? CONNECT_SECONDS_MAX,
  );
  const connection = { ...source.connection, connectTimeoutSeconds };
  let chosen: DatabaseChoice | undefined;
  const examined = await probe({ kind: 'database', name }, 'postgres-unreachable', world, async (signal) => {
    const options = { applicationName: 'pgark probe', signal };
    if (patterns !== undefined) {
      chosen = await chooseDatabases({ ...source, connection }, patterns, options);
      return;
    }
    const session = await connect(connection, options);
    try {
      await untilAborted(session.query('select 1'), signal);
    } finally {
      await session.close();
    }
  });
  return examined.error === undefined ? { ...examined, chosen } : examined;
}

/** Whether a storage answers and may be listed. Rejects with the signal's reason only. */
export async function probeStorage(
  name: string,
  open: () => Promise<ObjectStore>,
  world: ProbeWorld,
): Promise<Examined> {
  return probe({ kind: 'storage', name }, 'store-unreachable', world, async (signal) => {
    const store = await open();
    for await (const _ of store.list(keys.repository, { signal })) break;
  });
}

async function probe(
  what: Pick<Probe, 'kind' | 'name'>,
  lateCode: 'postgres-unreachable' | 'store-unreachable',
  { clock, signal }: ProbeWorld,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<Examined> {
  const limit = timeLimit(clock, PROBE_MS_MAX, 'the probe took too long', signal);
  try {
    await untilAborted(work(limit.signal), limit.signal);
    return { probe: { ...what, at: clock.now() } };
  } catch (thrown) {
    signal.throwIfAborted();
    const error =
      limit.signal.aborted && !isPgarkError(thrown)
        ? new PgarkError(lateCode, `${what.kind} ${what.name} does not answer within ${PROBE_MS_MAX / 1_000} s`)
        : asPgarkError(thrown);
    return { probe: { ...what, at: clock.now(), failure: error.message }, error };
  } finally {
    limit.end();
  }
}
