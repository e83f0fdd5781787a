import { mkdir, rm, writeFile } from 'node:fs/promises';
import { runCli } from '../../src/cli/program.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { cliWorld, recordingTerminal } from './cli-world.ts';
import { FaultyStore, type StoreFaults } from './faulty-store.ts';
import { makeTempDirectory } from './temp.ts';

/** Storages in files, in this order, and commands that are run with them. */
export interface FileStorages extends AsyncDisposable {
  open(name: string): ObjectStore;
  /** From now on nobody gets at it. */
  takeAway(name: string): Promise<void>;
  /** From now on commands meet these faults in it. */
  disturb(name: string, faults: StoreFaults): void;
  run(...args: readonly string[]): Promise<{ readonly exit: number; readonly stdout: string; readonly stderr: string }>;
}

export async function fileStorages(...names: readonly string[]): Promise<FileStorages> {
  const folder = await makeTempDirectory();
  const storages = Object.fromEntries(names.map((name) => [name, { type: 'file', path: name }]));
  const databases = { shop: { url: 'postgres://app@127.0.0.1:1/shop' } };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify({ version: 1, storages, databases }));
  for (const name of names) await mkdir(folder.join(name));
  const disturbed = new Map<string, StoreFaults>();
  return {
    open: (name) => new FileStore({ root: folder.join(name), clock: systemClock, random: systemRandom }),
    takeAway: async (name) => {
      await rm(folder.join(name), { recursive: true });
      await writeFile(folder.join(name), 'no folder');
    },
    disturb: (name, faults) => {
      disturbed.set(name, faults);
    },
    run: async (...args) => {
      const terminal = recordingTerminal({ tableColumns: Number.POSITIVE_INFINITY });
      const world = cliWorld(terminal, {}, folder.path);
      const openStore: typeof world.adapters.openStore = async (storage, ...rest) =>
        new FaultyStore(await world.adapters.openStore(storage, ...rest), disturbed.get(storage.name));
      const adapters = { ...world.adapters, openStore };
      const exit = await runCli([...args, '--config', 'pgark.yaml'], { ...world, adapters });
      return { exit, stdout: terminal.stdout(), stderr: terminal.stderr() };
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}
