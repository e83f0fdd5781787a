import { mkdtemp, readFile, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CHAIN_BLOCK_BYTES, type Link, type LinkFile, storeChain } from '../../../test/support/base-chain.ts';
import { filesBelow } from '../../../test/support/base-files.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { BackupManifestReader } from '../../postgres/base/backup-manifest.ts';
import { readParents } from './backup-chain.ts';
import type { PhysicalObjects } from './physical-objects.ts';
import { RestoredBase } from './restore-base.ts';

const NO_KEYS = { identities: [], passphrases: [] };
const signal = new AbortController().signal;
const LABEL = 'START TIME: now\n';

let outside: string;
beforeEach(async () => {
  outside = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-chain-')));
});
afterEach(async () => rm(outside, { recursive: true, force: true }));

/** The directory that a chain is merged into, as file contents by path. */
async function merge(chain: readonly PhysicalObjects[]): Promise<Record<string, string>> {
  const [newest, ...older] = chain;
  if (newest === undefined) throw new Error('a chain has links');
  const directory = path.join(outside, 'data');
  const target = { directory, tablespaces: [{ oid: '7', path: path.join(outside, 'space'), isInside: false }] };
  const base = await RestoredBase.unpack(newest, target, { signal, onStoredBytes: () => {} }, older);
  const all = Object.entries(await filesBelow(directory));
  const files = Object.fromEntries(all.filter(([name]) => path.basename(name) !== '.pgark-restoring'));
  await checkManifest(directory, files);
  await base.discard();
  return files;
}

/** What pg_verifybackup would do. */
async function checkManifest(directory: string, files: Readonly<Record<string, string>>): Promise<void> {
  const listed: Record<string, string> = {};
  const reader = new BackupManifestReader(({ path: name, bytes, checksum }) => {
    listed[name] = `${bytes} ${checksum}`;
  });
  reader.push(await readFile(path.join(directory, 'backup_manifest')));
  reader.end();
  const { backup_manifest: _, ...others } = files;
  expect(listed).toEqual(others);
}

function block(value: number): Buffer {
  return Buffer.alloc(CHAIN_BLOCK_BYTES, value);
}

function blocks(...values: readonly number[]): Buffer {
  return Buffer.concat(values.map(block));
}

const digestOf = async (content: Uint8Array): Promise<string> => {
  const digest = Buffer.from(await crypto.subtle.digest('SHA-256', new Uint8Array(content))).toString('hex');
  return `${content.length} ${digest}`;
};

/** A relation's file as it is on a server, and what happened to it since the last backup. */
interface Relation {
  blocks: number[];
  changed: Set<number>;
  shortest: number;
  isNew: boolean;
}

type Step =
  | {
      readonly kind: 'write' | 'truncate' | 'extend';
      readonly file: number;
      readonly at: number;
      readonly value: number;
    }
  | { readonly kind: 'drop' | 'create'; readonly file: number };

const PATHS = ['base/5/1', 'base/5/1.1', 'base/5/2_vm', 'pg_tblspc/7/PG_17/5/3', 'global/4'];

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('write' as const, 'truncate' as const, 'extend' as const),
      file: fc.nat({ max: PATHS.length - 1 }),
      at: fc.nat({ max: 11 }),
      value: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('drop' as const, 'create' as const),
      file: fc.nat({ max: PATHS.length - 1 }),
    }),
  },
);

function carryOut(relations: Map<number, Relation>, each: Step): void {
  const relation = relations.get(each.file);
  if (each.kind === 'create') {
    if (relation === undefined) {
      relations.set(each.file, { blocks: [], changed: new Set(), shortest: 0, isNew: true });
    }
  } else if (each.kind === 'drop') relations.delete(each.file);
  else if (relation === undefined || !('at' in each)) return;
  else if (each.kind === 'truncate') {
    relation.blocks = relation.blocks.slice(0, each.at);
    relation.shortest = Math.min(relation.shortest, relation.blocks.length);
  } else {
    const at = each.kind === 'extend' ? relation.blocks.length : each.at;
    if (at >= relation.blocks.length && each.kind === 'write') return;
    relation.blocks[at] = each.value;
    relation.changed.add(at);
  }
}

/** What a server would send, and a new beginning for what is counted. */
function backedUp(relations: Map<number, Relation>, isFull: boolean, wholeToo: (file: number) => boolean): Link {
  const files = [...relations].map(([file, relation]): LinkFile => {
    const name = PATHS[file] ?? '';
    const changed = [...relation.changed].filter((number) => number < relation.blocks.length).toSorted((a, b) => a - b);
    const truncatedBlocks = Math.min(relation.shortest, relation.blocks.length);
    const whole = isFull || relation.isNew || wholeToo(file);
    relation.changed = new Set();
    relation.shortest = relation.blocks.length;
    relation.isNew = false;
    return whole
      ? { path: name, content: blocks(...relation.blocks) }
      : {
          path: name,
          truncatedBlocks,
          blocks: changed.map((number) => [number, block(relation.blocks[number] ?? 0)] as const),
        };
  });
  return { files };
}

describe('a chain of incremental backups', () => {
  test('is merged into the files that the server had at the newest one, whatever happened before', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(step, { maxLength: 14 }), { minLength: 2, maxLength: 4 }),
        fc.array(fc.nat({ max: 9 }), { minLength: 20, maxLength: 20 }),
        async (rounds, dice) => {
          const relations = new Map<number, Relation>(
            PATHS.map((_, file) => [
              file,
              { blocks: [file + 1, file + 2, file + 3], changed: new Set<number>(), shortest: 0, isNew: true },
            ]),
          );
          const links = rounds.map((steps, round) => {
            for (const each of steps) carryOut(relations, each);
            return backedUp(relations, round === 0, (file) => dice[round * PATHS.length + file] === 0);
          });
          const { backup_manifest: _, ...merged } = await merge(await storeChain(new MemoryStore(), links));
          const expected: Record<string, string> = { backup_label: await digestOf(Buffer.from(LABEL)) };
          for (const [file, relation] of relations) {
            expected[PATHS[file] ?? ''] = await digestOf(blocks(...relation.blocks));
          }
          expect(merged).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('takes no file for whole that was truncated and is as long as it was again', async () => {
    const chain = await storeChain(new MemoryStore(), [
      { files: [{ path: 'base/5/1', content: blocks(1, 2, 3) }] },
      { files: [{ path: 'base/5/1', truncatedBlocks: 1, blocks: [[2, block(9)]] }] },
    ]);
    // What was neither kept nor sent is zeros, as PostgreSQL has it.
    expect((await merge(chain))['base/5/1']).toBe(await digestOf(blocks(1, 0, 9)));
  });

  test('leaves a file that only begins as one of changes where there are no relations', async () => {
    const content = Buffer.from('mine');
    const chain = await storeChain(new MemoryStore(), [
      { files: [] },
      { files: [{ path: 'INCREMENTAL.notes', content }] },
    ]);
    expect((await merge(chain))['INCREMENTAL.notes']).toBe(await digestOf(content));
  });

  const changes = (file: Partial<Extract<LinkFile, { blocks: unknown }>> = {}): LinkFile => ({
    path: 'base/5/1',
    truncatedBlocks: 2,
    blocks: [[1, block(7)]],
    ...file,
  });
  const full = { files: [{ path: 'base/5/1', content: blocks(1, 2) }] };

  test.each<[string, readonly Link[], string]>([
    [
      'without the file that one is of',
      [{ files: [] }, { files: [changes()] }],
      'has not base/5/1, which the next one',
    ],
    [
      'that leaves a file out in the middle',
      [full, { files: [] }, { files: [changes()] }],
      '20261121T020000Z-iaaaaaa has not base/5/1',
    ],
    ['of a full backup with changes', [{ files: [changes()] }, { files: [changes()] }], 'has not base/5/1'],
    [
      'whose label speaks of another backup',
      [full, { files: [changes()], label: 'INCREMENTAL FROM LSN: 0/3000028\nINCREMENTAL FROM TLI: 1\n' }],
      'is an increment of another backup than 20261120T020000Z-faaaaaa',
    ],
    ['whose label speaks of none', [full, { files: [changes()], label: '' }], 'is an increment of another backup'],
    [
      'with blocks of another size',
      [full, { files: [changes({ blocks: [[1, new Uint8Array(512)]] })] }],
      'INCREMENTAL.1 is no incremental file: it has',
    ],
    [
      'with a block beyond all',
      [full, { files: [changes({ blocks: [[2 ** 31, block(1)]] })] }],
      'there is no block 2147483648',
    ],
    [
      'with what is no file of changes',
      [full, { files: [{ path: 'base/5/INCREMENTAL.1', content: Buffer.alloc(12) }] }],
      'it does not begin as one',
    ],
    [
      'with the beginning of one',
      [full, { files: [{ path: 'base/5/INCREMENTAL.1', content: Buffer.alloc(5) }] }],
      'INCREMENTAL.1 is no incremental file: it is truncated',
    ],
  ])('is refused %s, and nothing stays', async (_, links, words) => {
    const chain = await storeChain(new MemoryStore(), links);
    await expect(merge(chain)).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining(words) });
    expect(await filesBelow(outside)).toEqual({});
  });

  test('writes through no link', async () => {
    const chain = await storeChain(new MemoryStore(), [full, { files: [changes()] }]);
    await symlink(outside, path.join(outside, 'data'));
    await expect(merge(chain)).rejects.toMatchObject({ code: 'target-not-empty' });
  });
});

describe('the parents of a backup', () => {
  test('are read from where it lies, and are missed', async () => {
    const store = new MemoryStore();
    const chain = await storeChain(store, [
      { files: [] },
      { files: [] },
      { files: [{ path: 'base/5/1', content: blocks(1) }] },
    ]);
    const [newest, middle, full] = chain.map(({ manifest }) => manifest);
    if (newest === undefined || middle === undefined || full === undefined) throw new Error('there are three');
    const access = { store, keys: NO_KEYS, signal };
    expect((await readParents(newest, access)).map(({ manifest }) => manifest.id)).toEqual([middle.id, full.id]);
    expect(await readParents(full, access)).toEqual([]);
    const swapped = { ...newest, parents: [full.id, middle.id] };
    await expect(readParents(swapped, access)).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(`${full.id} is not the backup that it is relative to`),
    });
    store.objects.delete(`.pgark/backups/main/postgres/${full.id}.json`);
    await expect(readParents(newest, access)).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(`${full.id}, which it is relative to, is not in memory:`),
    });
  });
});
