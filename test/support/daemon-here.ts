import { type Clock, systemClock } from '../../src/common/clock.ts';
import { type LogFields, type Logger, silentLogger } from '../../src/common/log.ts';
import { silentTracing } from '../../src/common/tracer.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config, SourceConfig } from '../../src/config/model.ts';
import { operationContext } from '../../src/operations/context.ts';
import { runDaemon } from '../../src/service/daemon.ts';
import type { Adapters } from '../../src/service/stores.ts';

/** What was said with an event. */
interface Line {
  readonly event: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** A daemon in this process. */
interface DaemonHere {
  readonly events: readonly string[];
  of(event: string): readonly Line[];
  /** The first one of these events from now on. */
  next(...events: readonly string[]): Promise<Line>;
  /** Of its HTTP server; undefined until it listens. */
  readonly port: () => number | undefined;
  /** As by SIGHUP. */
  readonly reload: () => void;
  /** When it has ended. */
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

interface DaemonHereOptions extends Pick<Adapters, 'openStore'>, Partial<Omit<Adapters, 'openStore'>> {
  /** Default: the real one. */
  readonly clock?: Clock;
  readonly readConfig: () => Promise<Config>;
}

/** Reads the `pgark.yaml` in a folder, each time anew. `change`: what nobody may configure. */
export function configIn(
  folder: string,
  change: (source: SourceConfig) => SourceConfig = (source) => source,
): () => Promise<Config> {
  return async () => {
    const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder });
    return { ...config, databases: new Map([...config.databases].map(([name, each]) => [name, change(each)])) };
  };
}

/** A daemon in a world that the test makes. Default: without keys and traces. */
export function startDaemonHere(options: DaemonHereOptions): DaemonHere {
  const { clock = systemClock, readConfig, ...adapters } = options;
  const events: string[] = [];
  const lines: Line[] = [];
  const waiting = new Set<(line: Line) => void>();
  let port: number | undefined;
  const note: Logger['info'] = (event, message, fields = {}) => {
    events.push(event);
    lines.push({ event, message, fields });
    if (event === 'http.listening') port = Number(fields['port']);
    for (const hears of waiting) hears({ event, message, fields });
  };
  const logger: Logger = { ...silentLogger, info: note, warning: note, error: note, child: () => logger };
  let reload = (): void => {};
  const stop = new AbortController();
  const ended = runDaemon({
    readConfig,
    adapters: { sealerOf: () => Promise.resolve(undefined), openTracing: () => silentTracing, ...adapters },
    contextOf: (_, signal) => operationContext({ logger, signal, clock }),
    signal: stop.signal,
    onReload: (listener) => {
      reload = listener;
      return () => {};
    },
    environment: {},
  });
  return {
    events,
    of: (event) => lines.filter((line) => line.event === event),
    async next(...wanted) {
      const { promise, resolve } = Promise.withResolvers<Line>();
      const hears = (line: Line): void => {
        if (wanted.includes(line.event)) resolve(line);
      };
      waiting.add(hears);
      return promise.finally(() => waiting.delete(hears));
    },
    port: () => port,
    reload: () => reload(),
    ended,
    stop: async () => {
      stop.abort();
      await ended;
    },
  };
}
