import { COMMAND_AFTER_START, commandsBeforeStart } from '../operations/recovery/start-by-hand.ts';
import { PASSPHRASE_FINGERPRINT } from '../pipeline/encryption/sealer.ts';
import type { Manifest, ManifestObject } from '../repository/manifest.ts';
import { keys } from '../repository/keys.ts';
import { dataFolderOf } from '../repository/repository.ts';

type Sealed = Pick<Manifest, 'encryption' | 'compression'>;

/** The command line that restores a file of SQL text with stock tools, once it is at hand. */
export function stockCommand(
  manifest: Sealed,
  object: ManifestObject,
  psql = 'psql -X -v ON_ERROR_STOP=1 -d NEW_DATABASE',
): string {
  const file = `'${fileOf(object.key).replaceAll("'", `'\\''`)}'`;
  const decrypt = decryption(manifest);
  const stages = decrypt === undefined ? [] : [`${decrypt} ${file}`];
  const input = stages.length === 0 ? ` ${file}` : '';
  if (manifest.compression.algorithm === 'gzip') stages.push(`gunzip -c${input}`);
  if (manifest.compression.algorithm === 'zstd') stages.push(`zstd -dc${input}`);
  return stages.length === 0 ? `${psql} -f ${file}` : `${stages.join(' | ')} | ${psql}`;
}

const IDENTITY = 'identity';

function fileOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

/** The first pg_restore that reads files compressed with zstd. */
const READS_ZSTD_SINCE = 16;

/** What restores a backup that is a folder of files, a line for each step; undefined for one that is a single file. */
export function commandsByHand(manifest: Manifest, location: string): readonly string[] | undefined {
  const folder = dataFolderOf(manifest);
  if (folder === undefined) return undefined;
  if (manifest.format === 'physical') return physicalByHand(manifest, location, folder);
  const key = manifest.objects.find(({ role }) => role === 'key')?.key;
  const decrypt = key === undefined ? decryption(manifest) : `age -d -i ${IDENTITY}`;
  const [, ending = ''] = decrypt === undefined ? [] : (/(\.age|\.enc)$/.exec(manifest.objects[0]?.key ?? '') ?? []);
  const major = Number.parseInt(manifest.client.version, 10);
  const unpacks = manifest.compression.algorithm === 'zstd' && major < READS_ZSTD_SINCE;
  return [
    `copy all of ${location.replace(/\/$/, '')}/${folder} into a folder DIR, or: pgark download ${manifest.id} DIR`,
    'cd DIR && sha256sum -c SHA256SUMS',
    // One that the passphrase opens is in the folder; it opens the rest.
    ...(key === undefined ? [] : [`age -d -o ${IDENTITY} ${fileOf(key)} && rm ${fileOf(key)}`]),
    ...(decrypt === undefined
      ? []
      : [`for f in *${ending}; do ${decrypt} "$f" > "\${f%${ending}}" && rm "$f" || break; done`]),
    ...(key === undefined ? [] : [`rm ${IDENTITY}`]),
    ...(unpacks ? ['zstd -d --rm *.zst'] : []),
    `createdb -T template0 NEW_DATABASE && pg_restore --exit-on-error -j 4 -d NEW_DATABASE .`,
  ];
}

/** A server of the same major version starts on what comes out. */
function physicalByHand(manifest: Manifest, location: string, folder: string): readonly string[] {
  const { source, server, timeline = 1, walNeeded, tablespaces = [], objects } = manifest;
  const key = objects.find(({ role }) => role === 'key')?.key;
  const decrypt = key === undefined ? decryption(manifest) : `age -d -i ${IDENTITY}`;
  const [, ending = ''] = decrypt === undefined ? [] : (/(\.age|\.enc)$/.exec(objects[0]?.key ?? '') ?? []);
  const unpack = { gzip: 'gunzip -c', zstd: 'zstd -dc', lz4: 'lz4 -dc', none: 'cat' }[manifest.compression.algorithm];
  const suffix = { gzip: '.gz', zstd: '.zst', lz4: '.lz4', none: '' }[manifest.compression.algorithm];
  const root = location.replace(/\/$/, '');
  const walFolder = keys.walPrefix(source, server.systemIdentifier ?? 'SYSTEM');
  const digits = timeline.toString(16).toUpperCase().padStart(8, '0');
  // Each of a chain by itself, and then all at once, the full one first.
  const chain = [...manifest.parents].reverse();
  const data = chain.length === 0 ? 'DATA' : 'WHOLE';
  const merges =
    chain.length === 0
      ? []
      : [
          `the same with each of ${chain.join(', ')}, whose folders lie beside this one, into DATA_ID; link each DIR_OID as DATA_ID/pg_tblspc/OID, here too`,
          `pg_combinebackup ${chain.map((id) => `DATA_${id}`).join(' ')} DATA -o ${data} -T DIR_OID=NEW_DIR`,
        ];
  return [
    `copy all of ${root}/${folder} into an empty folder, and there:`,
    'sha256sum -c SHA256SUMS',
    ...(key === undefined ? [] : [`age -d -o ${IDENTITY} ${fileOf(key)} && rm ${fileOf(key)}`]),
    ...(decrypt === undefined
      ? []
      : [`for f in *${ending}; do ${decrypt} "$f" > "\${f%${ending}}" && rm "$f" || break; done`]),
    ...(key === undefined ? [] : [`rm ${IDENTITY}`]),
    `mkdir -m 700 DATA && ${unpack} base.tar${suffix} | tar -x -C DATA && cp backup_manifest DATA`,
    ...tablespaces.map(
      ({ oid, location: place }) =>
        `mkdir -m 700 DIR_${oid} && ${unpack} ${oid}.tar${suffix} | tar -x -C DIR_${oid}; in DATA/tablespace_map put its absolute path for ${place}`,
    ),
    ...merges,
    `copy ${walNeeded?.from ?? ''} to ${walNeeded?.to ?? ''} of ${root}/${walFolder}${digits}/ into ${data}/pg_wal, decrypted and unpacked (zstd -d)`,
    ...(timeline > 1 ? [`copy ${root}/${walFolder}${digits}.history into ${data}/pg_wal`] : []),
    ...commandsBeforeStart(data, timeline),
    `pg_ctl -D ${data} start`,
    COMMAND_AFTER_START,
  ];
}

/** The command that decrypts the file whose name follows, to its stdout. */
function decryption({ encryption }: Sealed): string | undefined {
  if (encryption === undefined) return undefined;
  switch (encryption.scheme) {
    case 'age':
      // age asks for a passphrase on the terminal and takes none from a file.
      return encryption.keyFingerprints.includes(PASSPHRASE_FINGERPRINT) ? 'age -d' : 'age -d -i KEY_FILE';
    case 'openssl':
      return `openssl enc -d -aes-256-cbc -pbkdf2 -iter ${encryption.iterations ?? 10_000} -pass file:KEY_FILE -in`;
    default:
      return encryption.scheme satisfies never;
  }
}
