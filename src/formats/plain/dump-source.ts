import { releaseBlock } from '../../common/block-memory.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { drain } from '../../pipeline/drain.ts';
import { CLIENT_ENCODING, decodeText } from '../../postgres/client/text-encodings.ts';
import { chooseLoader, findLoaders } from '../../postgres/client/programs.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { ObjectKey } from '../../storage/object-store.ts';
import type { LoadSource, PreparedLoad, SourceAccess } from '../load-source.ts';
import { missingPart, readPart } from '../missing-part.ts';
import { checkStoredSize, readSealed, readStored } from '../sealed-object.ts';
import { mayNeed, RequirementsReader, type ServerRequirements } from '../server-requirements.ts';
import { type DumpFormat, isOutOfStep } from './dump-head.ts';
import { readForeign } from './foreign.ts';
import { loadArchive, loadScript } from './load.ts';

/** What is read, from its start, once or more often. */
type Open = (
  onStoredBytes: (bytesTotal: number) => void,
) => Promise<{ readonly format: DumpFormat; readonly body: ByteStream }>;

/** Errors: `corrupt` for one that is missing or truncated, `wrong-key`, `key-missing`, `store-…`. */
export async function openPlainBackup(manifest: Manifest, access: SourceAccess): Promise<LoadSource> {
  const { store, keys, signal } = access;
  const [object] = manifest.objects;
  if (object === undefined || manifest.objects.length !== 1) {
    throw new PgarkError(
      'repository-damaged',
      `the manifest of ${manifest.id} names ${manifest.objects.length} objects`,
    );
  }
  const info = await store.head(object.key, { signal });
  if (!info) throw missingPart(object.key, manifest, store);
  checkStoredSize(object, info.bytes);
  const part = (stream: ByteStream): ByteStream => readPart(stream, object.key, manifest, store);
  return describe(
    {
      name: object.key,
      storedBytes: object.storedBytes,
      like: manifest.database,
      sourceMajor: Math.floor(manifest.server.versionNum / 10_000),
      server: manifest.server,
    },
    async (onStoredBytes) => ({
      format: { kind: 'sql' },
      body: part(readSealed(store, manifest, object, { keys, signal, onStoredBytes })),
    }),
    (onStoredBytes) => part(readStored(store, object, { signal, onStoredBytes })),
  );
}

/** A dump that some other tool wrote. Errors as `readForeign`. */
export function openForeignDump(
  { key, bytes }: { readonly key: ObjectKey; readonly bytes: number },
  { store, keys, signal }: SourceAccess,
): Promise<LoadSource> {
  return describe(
    { name: key, storedBytes: bytes, like: undefined, sourceMajor: undefined, server: undefined },
    (onStoredBytes) => readForeign(store, key, { keys, signal, onStoredBytes }),
  );
}

type Known = Pick<LoadSource, 'name' | 'storedBytes' | 'like' | 'sourceMajor' | 'server'>;

/** `stored`: the same as it is stored, compared with what was recorded; missing where nothing was. */
async function describe(
  known: Known,
  open: Open,
  stored?: (onStoredBytes: (bytesTotal: number) => void) => ByteStream,
): Promise<LoadSource> {
  const { format, body } = await open(() => {});
  // The first block proves that the key fits; leaving the iteration ends the download.
  for await (const block of body) {
    if (block.length > 0) break;
  }
  const sourceMajor = known.sourceMajor ?? format.server?.major;
  return {
    ...known,
    format: known.like === undefined ? format.kind : 'plain',
    sourceMajor,
    oneTransaction: format.kind === 'sql' ? 'sql-and-load' : 'load',
    evidence: undefined,
    recorded: undefined,
    alsoLeftOut: [],
    withoutRows: [],
    leftBehind: [],
    only: () => {
      throw new PgarkError('restore-failed', `${known.name} can only be restored whole`, {
        hint: 'restore it into a new database and copy from there; backups of format directory can be restored in part',
      });
    },
    readThrough: async ({ unpacks, onStoredBytes }) => {
      await drain(stored === undefined || unpacks ? (await open(onStoredBytes)).body : stored(onStoredBytes));
    },
    // It is one object, and a load reads it to its end.
    checkUnloaded: () => Promise.resolve(),
    requirements: async () => readRequirements((await open(() => {})).body),
    prepare: (serverMajor, clientDir) => prepare(format, { sourceMajor, serverMajor, clientDir }, open),
  };
}

/** Lines of rows may be long, and none of them is of interest. */
const LINE_BYTES_MAX = 64 * 1024;

async function readRequirements(body: ByteStream): Promise<ServerRequirements> {
  const reader = new RequirementsReader();
  let encoding: string | undefined;
  const read = (line: string): void => {
    encoding ??= CLIENT_ENCODING.exec(line)?.[1];
    if (mayNeed(line)) reader.read(decodeText(Buffer.from(line, 'latin1'), encoding ?? 'UTF8'));
  };
  let rest = '';
  for await (const block of body) {
    const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    const lines = (rest + bytes.toString('latin1')).split('\n');
    releaseBlock(block);
    rest = (lines.pop() ?? '').slice(0, LINE_BYTES_MAX);
    for (const line of lines) read(line);
  }
  read(rest);
  return reader;
}

async function prepare(
  format: DumpFormat,
  {
    sourceMajor,
    serverMajor,
    clientDir,
  }: {
    readonly sourceMajor: number | undefined;
    readonly serverMajor: number;
    readonly clientDir: string | undefined;
  },
  open: Open,
): Promise<PreparedLoad> {
  const loader = chooseLoader(
    format.kind,
    await findLoaders(clientDir),
    { server: serverMajor, dump: format.writtenBy?.major ?? sourceMajor },
    { asText: isOutOfStep(format) },
  );
  return {
    programVersion: loader.program.version,
    load: async ({ onStoredBytes, onLoaded, jobs: _jobs, clock: _clock, random: _random, ...how }) => {
      const { body } = await open(onStoredBytes);
      await (format.kind === 'sql' ? loadScript : loadArchive)(body, {
        ...loader,
        ...how,
        dumpMajor: sourceMajor,
        serverMajor,
      });
      onLoaded?.(0);
    },
  };
}
