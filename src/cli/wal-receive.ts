import type { Config, SourceConfig } from '../config/model.ts';
import type { WalStore } from '../operations/wal/archives.ts';
import { receiveWal } from '../operations/wal/receive.ts';
import { Teller } from '../service/tell.ts';
import type { WalSettings } from '../service/wal.ts';
import { WalWatch } from '../service/wal-watch.ts';
import type { CommandRun } from './command.ts';
import { tellWorld } from './telling.ts';

/** Receives WAL of one server, and tells of what is amiss, until the command is stopped. */
export async function receiveUntilStopped(
  run: CommandRun,
  wanted: {
    readonly config: Config;
    readonly source: SourceConfig;
    readonly settings: WalSettings;
    readonly slot: string;
    readonly stores: readonly WalStore[];
  },
): Promise<void> {
  const { config, source, settings, slot, stores } = wanted;
  const context = run.context(config);
  const telling = tellWorld(run, config);
  const over = new AbortController();
  const watch = new WalWatch({
    config,
    source,
    slot,
    context,
    openStore: telling.openStore,
    teller: new Teller(telling),
    stop: over.signal,
    onBaseWanted: () => false,
  });
  const receiver = receiveWal(
    {
      source: source.name,
      connection: source.connection,
      slot,
      stores,
      sealer: await run.world.adapters.sealerOf(settings.encryption),
      keys: config.decryptionKeys,
      flushMs: settings.flushMs,
      slotBudgetBytes: settings.slotBudgetBytes,
      synchronous: settings.synchronous,
      failsAtStart: true,
      onAlarm: (alarm) => watch.heard(alarm),
    },
    context,
  );
  watch.receiver = receiver;
  const watching = watch.run();
  try {
    await receiver.ended;
  } finally {
    over.abort();
    await watching;
    await watch.told;
  }
}
