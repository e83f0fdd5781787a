import type { Command } from 'commander';
import { systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { createLogger, type LogLevel } from '../common/log-writer.ts';
import type { Tracing } from '../common/tracer.ts';
import { loadConfig } from '../config/load.ts';
import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import type { Need } from '../config/problems.ts';
import { type OperationContext, operationContext } from '../operations/context.ts';
import { Throttle } from '../pipeline/throttle.ts';
import type { Adapters } from '../service/stores.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { formatError, logLine } from './errors.ts';
import { formatJson, type JsonLine } from './json.ts';
import type { LogForm } from './log-form.ts';
import { ProgressLine } from './progress.ts';
import type { Terminal } from './terminal.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  readonly config?: string;
  readonly output?: 'table' | 'json' | 'ndjson';
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly progress?: boolean;
}

/** What the process gives to the command line. */
export interface ProcessWorld {
  readonly adapters: Adapters;
  readonly terminal: Terminal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly signal: AbortSignal;
  /**
   * Takes SIGHUP for something of the command's own, until the function returned is called; without a taker it ends the
   * command as the other signals do. Undefined where the process has no signals of its own.
   */
  readonly onHangup?: ((listener: () => void) => () => void) | undefined;
}

/** The same with what is one command line's own. */
export interface CliWorld extends ProcessWorld {
  readonly log: LogForm;
}

/** One command while it runs: configuration, stores, logger and output, made when first asked for. */
export class CommandRun {
  readonly world: CliWorld;
  readonly options: GlobalOptions;
  readonly #progress: ProgressLine;
  readonly #stores: ObjectStore[] = [];
  #tracing: Tracing | undefined;
  #throttle: Throttle | undefined;

  constructor(world: CliWorld, options: GlobalOptions) {
    this.world = world;
    this.options = options;
    this.#progress = new ProgressLine(
      world.terminal,
      systemClock,
      options.progress !== false && options.quiet !== true,
      world.log,
    );
  }

  get json(): boolean {
    return this.options.output === 'json' || this.options.output === 'ndjson';
  }

  /** Reads the configuration, asking only for the parts that the command needs. */
  async readConfig(needs: readonly Need[]): Promise<Config> {
    const { environment, cwd, log } = this.world;
    const config = await loadConfig({
      ...(this.options.config === undefined ? {} : { file: this.options.config }),
      env: environment,
      cwd,
      needs,
      // What is read again while the command runs, and is wrong, changes nothing.
      onLogFormat: (format) => {
        if (!log.isSettled) log.settle(format);
      },
    });
    log.settle(config.log.format);
    return config;
  }

  /** The same, and passes its warnings on. */
  async config(needs: readonly Need[]): Promise<Config> {
    const config = await this.readConfig(needs);
    const logger = this.logger(config);
    for (const warning of config.warnings) logger.warning('config.warning', warning);
    return config;
  }

  /** On a terminal the live line says what is going on, and the log only what is amiss. */
  logger(config: Pick<Config, 'log'>): Logger {
    const { terminal } = this.world;
    const level: LogLevel = this.options.verbose
      ? 'debug'
      : this.options.quiet
        ? 'error'
        : config.log.level === 'info' && terminal.live
          ? 'warning'
          : config.log.level;
    return createLogger({
      format: this.world.log.format,
      level,
      write: (line) => this.print(() => terminal.err(line)),
    });
  }

  context(config: Config): OperationContext {
    const logger = this.logger(config);
    this.#tracing ??= this.world.adapters.openTracing(config.traces, logger);
    return operationContext({
      logger,
      tracer: this.#tracing.tracer,
      signal: this.world.signal,
      onProgress: (progress) => this.#progress.update(progress),
    });
  }

  /** What all stores of the command share; undefined without a limit. */
  throttle({ bandwidthBytesPerSecond: limit }: Config): Throttle | undefined {
    if (limit === undefined) return undefined;
    this.#throttle ??= new Throttle(limit, systemClock);
    return this.#throttle;
  }

  async open(storage: StorageConfig, config: Config): Promise<ObjectStore> {
    const store = await this.world.adapters.openStore(storage, this.logger(config), this.throttle(config));
    this.#stores.push(store);
    return store;
  }

  /** Writes the result: the object as JSON with `schema_version`, or the text; `lines` are those of ndjson, of a list. */
  result(json: Readonly<Record<string, unknown>>, text: () => string, lines?: () => readonly JsonLine[]): void {
    const { output = 'table' } = this.options;
    const { out } = this.world.terminal;
    this.print(() => {
      if (output === 'table') out(text());
      else if (output === 'json' || lines === undefined) out(formatJson(json, output));
      else for (const line of lines()) out(formatJson(line, output));
    });
  }

  /** A line for people only, on stderr; silent with --quiet. */
  note(text: string): void {
    if (this.options.quiet) return;
    const { log, terminal } = this.world;
    this.print(() => terminal.err(log.format === 'json' ? logLine('info', 'command.note', text.trimEnd()) : text));
  }

  /** An error of one of several things that the command works on, which is not the one that it ends with. */
  failure(of: string, error: PgarkError): void {
    const { log, terminal } = this.world;
    this.print(() => terminal.err(formatError(error, log.format, { of })));
  }

  print(write: () => void): void {
    this.#progress.end();
    write();
  }

  async close(): Promise<void> {
    this.#progress.end();
    await Promise.all([this.#tracing?.close(), ...this.#stores.map((store) => store.close())]);
  }
}

/** Registers what a verb does: options are read, the command runs, and its stores are closed whatever happens. */
export function action(
  command: Command,
  world: CliWorld,
  run: (command: CommandRun, args: readonly string[], options: Readonly<Record<string, unknown>>) => Promise<void>,
): void {
  command.action(async () => {
    const args = command.processedArgs.flat().filter((arg): arg is string => typeof arg === 'string');
    const current = new CommandRun(world, command.optsWithGlobals<GlobalOptions>());
    try {
      await run(current, args, command.opts());
    } finally {
      await current.close();
    }
  });
}

/** The storage that a command works on: the one named, or the only one there is. */
export function chooseStorage(config: Config, name: string | undefined): StorageConfig {
  const all = [...config.storages.values()];
  const names = all.map((storage) => storage.name).join(', ');
  if (name !== undefined) {
    const found = config.storages.get(name);
    if (!found)
      throw new PgarkError('usage', `there is no storage called ${name}`, { hint: `the configuration has: ${names}` });
    return found;
  }
  const [only, another] = all;
  if (only === undefined) throw new PgarkError('config-missing', 'no storage is configured');
  if (another !== undefined)
    throw new PgarkError('usage', `there are ${all.length} storages`, {
      hint: `say which one: --storage ${names.replaceAll(', ', ' | ')}`,
    });
  return only;
}

/** The storages that names on the command line mean; all without any name. Errors: `usage`, `config-missing`. */
export function chooseStorages(config: Config, names: readonly string[]): readonly StorageConfig[] {
  if (names.length > 0) return [...new Set(names)].map((name) => chooseStorage(config, name));
  return config.storages.size > 1 ? [...config.storages.values()] : [chooseStorage(config, undefined)];
}

/** The sources that names on the command line mean: by the source's name or its database's; all without any name. */
export function chooseSources(config: Config, names: readonly string[]): readonly SourceConfig[] {
  const all = [...config.databases.values()];
  if (names.length === 0) return all;
  return names.map((name) => {
    const found = findSource(config, name);
    if (!found) {
      throw new PgarkError('usage', `there is no database called ${name} in the configuration`, {
        hint: `it has: ${all.map((source) => source.name).join(', ')}`,
      });
    }
    return found;
  });
}

/** The source that a name means. Error: `usage` for a database that several sources have: the first may be the wrong one. */
export function findSource(config: Config, name: string): SourceConfig | undefined {
  const named = config.databases.get(name);
  if (named !== undefined) return named;
  const [only, ...others] = [...config.databases.values()].filter((source) => source.connection.database === name);
  if (only === undefined || others.length === 0) return only;
  const candidates = [only, ...others].map(
    ({ name: source, connection }) => `${source} (${connection.host}:${connection.port})`,
  );
  throw new PgarkError(
    'usage',
    `${candidates.length} sources have a database called ${name}: ${candidates.join(', ')}`,
    {
      hint: 'name the source instead of the database',
    },
  );
}
