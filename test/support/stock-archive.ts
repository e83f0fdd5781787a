import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { type ArchiveContents, evidenceOf, serialiseContents } from '../../src/formats/directory/contents.ts';
import { type Seal, SealedStream } from '../../src/formats/sealed-object.ts';
import { compressionSuffix } from '../../src/pipeline/compression.ts';
import { RowsHash } from '../../src/pipeline/rows-hash.ts';
import { readToc } from '../../src/postgres/toc/read-toc.ts';
import { TABLE_DATA, TABLE_DATA_END, type TocEntry } from '../../src/postgres/toc/toc.ts';
import { makeBackupId } from '../../src/repository/ids.ts';
import { keys } from '../../src/repository/keys.ts';
import type { Manifest, ManifestObject } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import type { TestDatabase } from './postgres.ts';
import { manifestOf } from './repository-place.ts';
import { makeTempDirectory } from './temp.ts';

const run = promisify(execFile);
const OUTPUT_BYTES_MAX = 1024 ** 3;
const PLAIN: Seal = { compression: { algorithm: 'none', level: 0 } };

export interface StockArchiveOptions {
  readonly source?: string;
  /** Default: neither compressed nor encrypted. */
  readonly seal?: Seal;
  /** Rows of each piece that a table is cut into. Default: all. */
  readonly pieceRows?: number;
  /** Whether rows are recognised by their hash, as those of pgark's own archives are. Default: by the digest of the file. */
  readonly hashed?: boolean;
  /** Something that was recorded wrongly, with digests that fit. */
  readonly falsify?: (contents: ArchiveContents) => ArchiveContents;
}

/**
 * A backup of format directory made of what pg_dump itself writes, with nothing of pgark's own dump in it. Nobody may
 * change the database meanwhile. Its `toc.dat` does not know of the pieces.
 */
export async function makeStockArchive(
  database: TestDatabase,
  store: ObjectStore,
  {
    source = 'shop',
    seal = PLAIN,
    pieceRows,
    hashed = false,
    falsify = (contents) => contents,
  }: StockArchiveOptions = {},
): Promise<Manifest> {
  const env = { ...process.env, ...database.env };
  await using directory = await makeTempDirectory();
  await run('pg_dump', ['--format=directory', '--compress=0', `--file=${directory.join('dump')}`], { env });
  const custom = await run('pg_dump', ['--format=custom', '--compress=0'], {
    env,
    encoding: 'buffer',
    maxBuffer: OUTPUT_BYTES_MAX,
  });
  const read = (name: string): Promise<Buffer> => readFile(directory.join(`dump/${name}`));

  const id = makeBackupId(new Date(), 'd', systemRandom);
  const folder = keys.archivePrefix(source, id);
  const put = async (name: string, role: string, content: Uint8Array, how: Seal): Promise<ManifestObject> => {
    const ending = `${compressionSuffix(how.compression.algorithm)}${how.sealer?.suffix ?? ''}`;
    const key = `${folder}${name}${ending}`;
    const stream = new SealedStream({ key, role, source: oneBlock(content), seal: how, outlets: 1 });
    const stored = await stream.outlets[0]?.put(store, {});
    if (stored === undefined) throw new Error('the stream has no outlet');
    return stored.object;
  };
  const uncompressed = { ...seal, ...PLAIN };

  const { toc, bytes } = readToc(custom.stdout);
  const files: ArchiveContents['files'] = [];
  const tables: ArchiveContents['tables'] = [];
  const list = (object: ManifestObject, more: Partial<ArchiveContents['files'][number]>): void => {
    const { key, role: _, etag: _etag, confirmedBy: _by, piece: _piece, plainSha256 = '', ...digests } = object;
    files.push({ name: key.slice(folder.length), role: 'data', ...digests, plainSha256, ...more });
  };
  for (const entry of toc.entries.filter(({ description }) => description === TABLE_DATA)) {
    // The first one has the name that `toc.dat` knows.
    const pieces = cut(await read(`${entry.dumpId}.dat`), pieceRows);
    for (const [index, { content, rows }] of pieces.entries()) {
      const name = index === 0 ? `${entry.dumpId}.dat` : `${entry.dumpId}_${index}.dat`;
      const piece = { entry: entry.dumpId, rows };
      const recognised = hashed ? { plainSha256: undefined, piece: { ...piece, hash: hashOf(content) } } : { piece };
      list(await put(name, 'data', content, seal), recognised);
    }
    const ofTable = files.flatMap(({ piece }) => (piece?.entry === entry.dumpId ? [piece] : []));
    tables.push({ ...namesOf(entry), ...evidenceOf(ofTable) });
  }
  const blobs = toc.entries.find(({ description }) => description === 'BLOBS');
  for (const name of await readdir(directory.join('dump'))) {
    const oid = /^blob_(\d+)\.dat$/.exec(name)?.[1];
    const role = oid === undefined ? ('large-objects' as const) : ('large-object' as const);
    if (oid !== undefined) {
      const largeObject = { oid, entry: blobs?.dumpId ?? 0 };
      list(await put(name, role, await read(name), seal), { role, largeObject });
    } else if (name === 'blobs.toc') list(await put(name, role, await read(name), uncompressed), { role });
  }

  const objects = [
    await put('toc.dat', 'toc', await read('toc.dat'), uncompressed),
    await put('pg_dump.toc', 'custom-toc', custom.stdout.subarray(0, bytes), seal),
    await put('contents.json', 'contents', serialiseContents(falsify({ layout: 1, files, tables })), seal),
  ];
  const stored = [...files, ...objects.map((object) => ({ ...object, name: object.key.slice(folder.length) }))];
  const lines = stored.map(({ name, storedSha256 }) => `${storedSha256}  ${name}\n`).join('');
  objects.push(await put('SHA256SUMS', 'sums', Buffer.from(lines), PLAIN));

  const [facts] = await database.query<{
    version: string;
    num: number;
    owner: string;
    encoding: string;
    ctype: string;
  }>(
    `select current_setting('server_version') as version, current_setting('server_version_num')::int as num,
            pg_get_userbyid(datdba) as owner, pg_encoding_to_char(encoding) as encoding, datctype as ctype
       from pg_database where datname = current_database()`,
  );
  const plain = manifestOf(id, database.name, []);
  const all = [...files, ...objects];
  const now = new Date().toISOString();
  const manifest: Manifest = {
    ...plain,
    format: 'directory',
    source,
    startedAt: now,
    endedAt: now,
    storeTime: now,
    database: {
      ...plain.database,
      owner: facts?.owner ?? '',
      encoding: facts?.encoding ?? '',
      collation: facts?.ctype ?? '',
      ctype: facts?.ctype ?? '',
    },
    server: { ...plain.server, version: facts?.version ?? '', versionNum: facts?.num ?? 0 },
    client: { program: 'pg_dump', version: facts?.version ?? '' },
    objects,
    totals: {
      objects: all.length,
      storedBytes: all.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      plainBytes: all.reduce((sum, { plainBytes }) => sum + plainBytes, 0),
    },
    compression: seal.compression,
    ...(seal.sealer === undefined ? {} : { encryption: encryptionOf(seal.sealer.record) }),
  };
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  await repository.initialise({ pgarkVersion: '0.1.0' });
  await repository.commit(manifest);
  return manifest;
}

function encryptionOf({ scheme, keyFingerprints, iterations }: NonNullable<Seal['sealer']>['record']) {
  return { scheme, keyFingerprints: [...keyFingerprints], ...(iterations === undefined ? {} : { iterations }) };
}

function namesOf({ dumpId, namespace, tag }: TocEntry): Omit<ArchiveContents['tables'][number], 'rows' | 'hash'> {
  const text = (bytes: string): string => Buffer.from(bytes, 'latin1').toString();
  return { entry: dumpId, schema: text(namespace ?? ''), name: text(tag) };
}

function hashOf(content: Buffer): string {
  const hash = new RowsHash();
  hash.update(content.subarray(0, -TABLE_DATA_END.length));
  return hash.digest();
}

function cut(content: Buffer, pieceRows = Number.POSITIVE_INFINITY): { content: Buffer; rows: number }[] {
  const lines = content.toString('latin1').slice(0, -TABLE_DATA_END.length).split('\n').slice(0, -1);
  const pieces: { content: Buffer; rows: number }[] = [];
  for (let start = 0; start < lines.length || start === 0; start += pieceRows) {
    const piece = lines.slice(start, start + pieceRows);
    const text = piece.map((line) => `${line}\n`).join('') + TABLE_DATA_END;
    pieces.push({ content: Buffer.from(text, 'latin1'), rows: piece.length });
  }
  return pieces;
}

async function* oneBlock(content: Uint8Array): AsyncGenerator<Uint8Array> {
  yield content;
}
