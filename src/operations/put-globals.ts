import { formatDuration } from '../common/bytes.ts';
import { assert, PgarkError } from '../common/errors.ts';
import { dumpGlobals, type GlobalsDumpRequest } from '../formats/globals/dump.ts';
import { type Seal, type SealedObject, SealedStream } from '../formats/sealed-object.ts';
import { describeConnection } from '../postgres/client/connection-parameters.ts';
import type { ObjectStore, PutStreamOptions } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { StallWatch } from './stall-watch.ts';

export interface GlobalsPut extends Required<Pick<PutStreamOptions, 'metadata' | 'onUploadOpened'>> {
  readonly key: string;
  readonly seal: Seal;
  readonly dump: Omit<GlobalsDumpRequest, 'onBytesRead' | 'signal'>;
  /** How long no byte may come and none be taken, in milliseconds. */
  readonly stallMs: number;
  /** Plain bytes so far, for progress. */
  readonly onPlainBytes: (bytesTotal: number) => void;
}

/**
 * pg_dumpall's text, sealed and put into a store. However it ends, pg_dumpall has ended too. Errors: `stalled`, `store-…`,
 * and those of `dumpGlobals`.
 */
export async function putGlobals(
  store: ObjectStore,
  { key, seal, dump, stallMs, onPlainBytes, metadata, onUploadOpened }: GlobalsPut,
  context: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<SealedObject> {
  using watch = new StallWatch({
    clock: context.clock,
    stallMs,
    isDue: () => true,
    stalled: () =>
      stream.awaited
        ? silentDump(dump, stallMs)
        : silentStore(store.location, describeConnection(dump.connection), stallMs),
  });
  const signal = AbortSignal.any([context.signal, watch.signal]);
  const moved = (): void => watch.moved();
  const source = dumpGlobals({ ...dump, onBytesRead: moved, signal });
  const stream = new SealedStream({ key, role: 'globals', source, seal, outlets: 1, onPlainBytes });
  try {
    const [outlet] = stream.outlets;
    assert(outlet !== undefined, 'the stream has its outlet');
    return await outlet.put(store, { metadata, onUploadOpened, onBytesStored: moved, onHeldBack: moved, signal });
  } finally {
    await stream.close();
  }
}

function silentDump({ connection, applicationName }: GlobalsPut['dump'], stallMs: number): PgarkError {
  return new PgarkError(
    'stalled',
    `pg_dumpall has sent nothing of ${describeConnection(connection)} for ${formatDuration(stallMs)} although its output was waited for`,
    {
      hint: `see what the server does for it (pg_stat_activity, application_name "${applicationName}") and the network between; then run the backup again`,
    },
  );
}

function silentStore(location: string, server: string, stallMs: number): PgarkError {
  return new PgarkError(
    'stalled',
    `${location} has taken no byte of the globals of ${server} and given no answer for ${formatDuration(stallMs)}`,
  );
}
