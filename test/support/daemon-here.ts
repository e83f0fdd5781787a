import type { Clock } from '../../src/common/clock.ts';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { silentTracing } from '../../src/common/tracer.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { SourceConfig } from '../../src/config/model.ts';
import { operationContext } from '../../src/operations/context.ts';
import { runDaemon } from '../../src/service/daemon.ts';
import type { Adapters } from '../../src/service/stores.ts';

/** A daemon in this process. */
interface DaemonHere {
  readonly events: readonly string[];
  /** What was said with each event. */
  readonly messages: readonly string[];
  /** Of its HTTP server; undefined until it listens. */
  readonly port: () => number | undefined;
  /** As by SIGHUP. */
  readonly reload: () => void;
  /** When it has ended. */
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

interface DaemonHereOptions extends Pick<Adapters, 'openStore' | 'sealerOf'> {
  readonly clock: Clock;
  /** What nobody may configure. Default: nothing. */
  readonly change?: (source: SourceConfig) => SourceConfig;
}

/** A daemon by the `pgark.yaml` in a folder, in a world that the test makes. */
export function startDaemonHere(folder: string, options: DaemonHereOptions): DaemonHere {
  const { clock, change = (source) => source, ...adapters } = options;
  const events: string[] = [];
  const messages: string[] = [];
  let port: number | undefined;
  const note: Logger['info'] = (event, message, fields) => {
    events.push(event);
    messages.push(message);
    if (event === 'http.listening') port = Number(fields?.['port']);
  };
  const logger: Logger = { ...silentLogger, info: note, warning: note, error: note, child: () => logger };
  let reload = (): void => {};
  const stop = new AbortController();
  const ended = runDaemon({
    readConfig: async () => {
      const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder });
      return { ...config, databases: new Map([...config.databases].map(([name, each]) => [name, change(each)])) };
    },
    adapters: { ...adapters, openTracing: () => silentTracing },
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
    messages,
    port: () => port,
    reload: () => reload(),
    ended,
    stop: async () => {
      stop.abort();
      await ended;
    },
  };
}
