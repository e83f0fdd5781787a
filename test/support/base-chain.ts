import { createHash } from 'node:crypto';
import { PhysicalObjects } from '../../src/formats/physical/physical-objects.ts';
import { keys } from '../../src/repository/keys.ts';
import { type Manifest, serialiseManifest } from '../../src/repository/manifest.ts';
import { manifestOf as backupManifestOf, tarOf } from './base-archive.ts';
import type { MemoryStore } from './memory-store.ts';

/** As small as a server's can be. */
export const CHAIN_BLOCK_BYTES = 1_024;

/** A file of a backup: whole, or the changed blocks of one. */
export type LinkFile =
  | { readonly path: string; readonly content: Uint8Array }
  | {
      readonly path: string;
      readonly truncatedBlocks: number;
      readonly blocks: readonly (readonly [number: number, content: Uint8Array])[];
    };

export interface Link {
  readonly files: readonly LinkFile[];
  /** What it says of the backup that it is relative to. Default: the truth. */
  readonly label?: string;
}

/** What PostgreSQL writes of changed blocks (basebackup_incremental.c). */
function incrementalFile(truncatedBlocks: number, blocks: readonly (readonly [number, Uint8Array])[]): Buffer {
  const head = Buffer.alloc(12 + 4 * blocks.length);
  head.writeUInt32LE(0xd3ae1f0d, 0);
  head.writeUInt32LE(blocks.length, 4);
  head.writeUInt32LE(truncatedBlocks, 8);
  for (const [index, [number]] of blocks.entries()) head.writeUInt32LE(number, 12 + 4 * index);
  const padding = blocks.length === 0 ? 0 : (CHAIN_BLOCK_BYTES - (head.length % CHAIN_BLOCK_BYTES)) % CHAIN_BLOCK_BYTES;
  return Buffer.concat([head, Buffer.alloc(padding), ...blocks.map(([, content]) => content)]);
}

/** Stores a chain of physical backups, the full one first, and gives its links, the newest first. */
export async function storeChain(
  store: MemoryStore,
  links: readonly Link[],
  { firstDay = 0 } = {},
): Promise<readonly PhysicalObjects[]> {
  const chain: PhysicalObjects[] = [];
  for (const [index, link] of links.entries()) {
    const day = firstDay + index;
    const id = `2026112${day}T020000Z-${index === 0 ? 'f' : 'i'}aaaaaa` as Manifest['id'];
    const folder = keys.basePrefix('main', id);
    const before = index === 0 ? undefined : chain[0]?.manifest;
    const from = before && `INCREMENTAL FROM LSN: ${before.startLsn}\nINCREMENTAL FROM TLI: ${before.timeline}\n`;
    const label = { path: 'backup_label', content: Buffer.from(`START TIME: now\n${link.label ?? from ?? ''}`) };
    const files = [label, ...link.files].map((file) =>
      'content' in file
        ? file
        : {
            path: file.path.replace(/([^/]*)$/, 'INCREMENTAL.$1'),
            content: incrementalFile(file.truncatedBlocks, file.blocks),
          },
    );
    const inSpace = files.filter(({ path }) => path.startsWith('pg_tblspc/7/'));
    const folders = [
      ...new Set(['pg_tblspc/', ...links.flatMap((each) => each.files).map(({ path }) => path)].flatMap(parentsOf)),
    ];
    const tar = (own: typeof files, prefix: string): Buffer =>
      tarOf([
        ...folders
          .filter((name) => name.startsWith(prefix) && (prefix !== '' || !name.startsWith('pg_tblspc/')))
          .map((name) => ({ name: name.slice(prefix.length), type: '5' as const, mode: 0o700 })),
        ...own.map(({ path, content }) => ({ name: path.slice(prefix.length), content })),
      ]);
    const put = async (name: string, role: string, content: Uint8Array): Promise<Manifest['objects'][number]> => {
      const key = `${folder}${name}`;
      await store.putSmall(key, content);
      const sha256 = createHash('sha256').update(content).digest('hex');
      const bytes = content.length;
      return { key, role, storedBytes: bytes, storedSha256: sha256, plainBytes: bytes, plainSha256: sha256 };
    };
    const objects = [
      await put('7.tar', 'tablespace', tar(inSpace, 'pg_tblspc/7/')),
      await put(
        'base.tar',
        'base',
        tar(
          files.filter((file) => !inSpace.includes(file)),
          '',
        ),
      ),
      await put('backup_manifest', 'backup_manifest', backupManifestOf(files)),
    ];
    const parents = before === undefined ? [] : [before.id, ...before.parents];
    const manifest: Manifest = {
      layout: 1,
      id,
      format: 'physical',
      source: 'main',
      database: {
        name: 'postgres',
        oid: '5',
        owner: 'postgres',
        encoding: 'UTF8',
        collation: 'C',
        ctype: 'C',
        localeProvider: 'libc',
        bytes: 0,
      },
      server: {
        host: 'h',
        port: 5432,
        version: '17.1',
        versionNum: 170_001,
        inRecovery: false,
        systemIdentifier: '7712539176122962914',
      },
      client: { program: 'pgark', version: '0' },
      startedAt: `2026-11-2${day}T02:00:00.000Z`,
      endedAt: `2026-11-2${day}T02:00:01.000Z`,
      storeTime: `2026-11-2${day}T02:00:01.000Z`,
      runId: '0',
      objects,
      compression: { algorithm: 'none', level: 0 },
      parents,
      ...(before && { incremental: { blockBytes: CHAIN_BLOCK_BYTES, mergedBytes: {} } }),
      timeline: 1,
      startLsn: `0/${index + 2}000028`,
      stopLsn: `0/${index + 2}000100`,
      tablespaces: [{ oid: '7', location: '/space' }],
      excluded: [],
      unreadable: [],
      pgarkVersion: '0',
    };
    await store.putSmall(keys.manifest('main', 'postgres', id), serialiseManifest(manifest));
    const signal = new AbortController().signal;
    chain.unshift(new PhysicalObjects(manifest, { store, keys: { identities: [], passphrases: [] }, signal }));
  }
  return chain;
}

function parentsOf(path: string): readonly string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}
