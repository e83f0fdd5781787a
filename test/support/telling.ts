import { writeFile } from 'node:fs/promises';
import { systemClock } from '../../src/common/clock.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { createLogger } from '../../src/common/log-writer.ts';
import { systemRandom } from '../../src/common/random.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/model.ts';
import { keys } from '../../src/repository/keys.ts';
import { Teller, type TellWorld } from '../../src/service/tell.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { type Answer, type HttpReceiver, startReceiver, status } from './http-receiver.ts';
import { MemoryStore } from './memory-store.ts';
import { makeTempDirectory } from './temp.ts';

/** In every address that a channel of these tests has. */
export const HOOK_SECRET = 'T0ken-never-to-be-seen';

/** Loads a configuration file of these lines. */
async function configOf(text: string): Promise<Config> {
  await using folder = await makeTempDirectory();
  await writeFile(folder.join('pgark.yaml'), text);
  return await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
}

/** A real receiver, two storages in memory, and a configuration with one source that tells it. */
export class TellingPlace implements AsyncDisposable {
  readonly receiver: HttpReceiver;
  readonly config: Config;
  readonly stores = new Map<string, ObjectStore>();
  readonly lines: string[] = [];
  readonly opened: string[] = [];

  private constructor(receiver: HttpReceiver, config: Config) {
    this.receiver = receiver;
    this.config = config;
    for (const name of config.storages.keys()) this.stores.set(name, new MemoryStore());
  }

  static async open(
    options: {
      readonly answers?: readonly [Answer, ...Answer[]];
      readonly type?: string;
      readonly on?: string;
      /** Further settings of the source: `wal: {}`. */
      readonly shop?: string;
    } = {},
  ): Promise<TellingPlace> {
    const { answers = [status(200)], type = 'slack', on = '["*"]', shop = '' } = options;
    const receiver = await startReceiver(answers);
    const config = await configOf(`
version: 1
storages:
  r2: { type: file, path: /nonexistent/r2 }
  nas: { type: file, path: /nonexistent/nas }
notifications:
  ops: { type: ${type}, url: "${receiver.origin}/${HOOK_SECRET}", on: ${on} }
defaults: { notify: [ops] }
databases:
  shop: { url: "postgres://app:pw@127.0.0.1:1/shop", ${shop && `${shop},`} jobs: { nightly: { format: plain, to: [r2, nas], schedule: "0 2 * * *" } } }
  quiet: { url: "postgres://app:pw@127.0.0.1:1/quiet", notify: [], jobs: { nightly: { format: plain, to: [r2] } } }
`);
    return new TellingPlace(receiver, config);
  }

  world(changes: Partial<TellWorld> = {}): TellWorld {
    return {
      clock: systemClock,
      random: systemRandom,
      logger: createLogger({ format: 'json', level: 'debug', write: (line) => this.lines.push(line) }),
      retry: { retriesMax: 0, delayMs: 0, delayMsMax: 0 },
      openStore: async ({ name }) => {
        this.opened.push(name);
        const store = this.stores.get(name);
        if (store === undefined) throw new PgarkError('store-unreachable', `${name} is away`);
        return Promise.resolve(store);
      },
      ...changes,
    };
  }

  /** Another process. */
  teller(changes: Partial<TellWorld> = {}): Teller {
    return new Teller(this.world(changes));
  }

  /** What was said, in the order in which it came. */
  get texts(): readonly string[] {
    return this.receiver.requests.map(({ body }) => body);
  }

  /** The state as it lies in a storage; undefined if there is none. */
  kept(storage: string): Record<string, unknown> | undefined {
    const store = this.stores.get(storage);
    const entry = store instanceof MemoryStore ? store.objects.get(keys.notifications) : undefined;
    return entry && (JSON.parse(Buffer.from(entry.bytes).toString()) as Record<string, unknown>);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.receiver[Symbol.asyncDispose]();
  }
}
