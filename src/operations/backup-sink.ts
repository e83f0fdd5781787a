import { assert } from '../common/errors.ts';
import { SealedStream } from '../formats/sealed-object.ts';
import type { ManifestObject } from '../repository/manifest.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { DestinationRun } from './backup-destination.ts';
import type { BackupFile, BackupSink, StoredFile } from './backup-format.ts';
import type { DestinationGroup } from './backup-group.ts';

/** Puts the files of one backup into all destinations of its group that are left. */
export class GroupSink implements BackupSink {
  readonly #group: DestinationGroup;
  readonly #onProgress: () => void;
  readonly #streams = new Set<SealedStream>();
  #plainBytes = 0;

  /** `onProgress` is called whenever bytes have come from the source, or a destination has taken some. */
  constructor(group: DestinationGroup, onProgress: () => void) {
    this.#group = group;
    this.#onProgress = onProgress;
  }

  /** Bytes of all files that have come from their sources. */
  get plainBytes(): number {
    return this.#plainBytes;
  }

  /** Whether bytes of a source are waited for. */
  get awaited(): boolean {
    return [...this.#streams].some((stream) => stream.awaited);
  }

  async put(file: BackupFile): Promise<StoredFile> {
    let stored: StoredFile | undefined;
    let failure: { readonly error: unknown } | undefined;
    await this.#stream(file, async (_destination, put, stream) => {
      try {
        stored = await put();
      } catch (error) {
        failure = stream.sourceFailure;
        if (failure === undefined || failure.error !== error) throw error;
      }
    });
    if (failure !== undefined) throw failure.error;
    assert(stored !== undefined, 'a file that was put lies in a destination');
    return stored;
  }

  async each(step: (store: ObjectStore, signal: AbortSignal) => Promise<void>): Promise<void> {
    await this.#group.each((destination) => destination.work(step));
  }

  /** Each destination puts the file and goes on as `step` does, without waiting for others; it fails if the source does. */
  async putLast(
    file: BackupFile,
    step: (destination: DestinationRun, put: () => Promise<StoredFile>) => Promise<void>,
  ): Promise<void> {
    await this.#stream(file, step);
  }

  async #stream(
    file: BackupFile,
    step: (destination: DestinationRun, put: () => Promise<ManifestObject>, stream: SealedStream) => Promise<void>,
  ): Promise<void> {
    const destinations = this.#group.alive;
    if (destinations.length === 0) return this.#group.each(async () => {});
    const { key, role, source, seal, filesAtOnce, onSealed } = file;
    const { digestsInThread = false, isContentDigested = true } = file;
    let plainBytes = 0;
    const stream = new SealedStream({
      key,
      role,
      seal,
      outlets: destinations.length,
      source,
      streamsAtOnce: filesAtOnce,
      digestsInThread,
      isContentDigested,
      onSealed,
      onPlainBytes: (total) => {
        this.#plainBytes += total - plainBytes;
        plainBytes = total;
        this.#onProgress();
      },
    });
    const outlets = new Map(destinations.map((destination, index) => [destination, stream.outlets[index]]));
    this.#streams.add(stream);
    try {
      await this.#group.each(async (destination) => {
        const outlet = outlets.get(destination);
        assert(outlet !== undefined, 'each destination has its outlet');
        await step(destination, () => destination.put(outlet, file, this.#onProgress), stream);
      });
    } finally {
      this.#streams.delete(stream);
      await stream.close();
    }
  }
}
