import { expect } from 'vitest';
import { operationContext } from '../../../src/operations/context.ts';
import { prune, type PruneOutcome } from '../../../src/operations/prune.ts';
import { newestProofs } from '../../../src/operations/proofs.ts';
import { type Verification, verify } from '../../../src/operations/verify.ts';
import type { BackupId } from '../../../src/repository/ids.ts';
import type { Manifest } from '../../../src/repository/manifest.ts';
import { dataKeysOf } from '../../../src/repository/repository.ts';
import type { ObjectStore } from '../../../src/storage/object-store.ts';
import { NO_KEYS } from '../../support/archive-restoring.ts';
import type { ProxiedRequest } from '../../support/fault-proxy.ts';
import { FEW_ROWS, openLogicalWorld } from './logical.ts';
import { type Begun, keptIn, type Kept, swept } from './operations.ts';
import { type CasePlace, LEASE_TERM_MS } from './place.ts';
import { outcomeOf, type Swept } from './sweep.ts';

const openWorld = () => openLogicalWorld('plain', 'HTTP', FEW_ROWS);

export const KEPT = 2;
export const BACKUPS = 4;

function pruneIn(store: ObjectStore): Promise<PruneOutcome> {
  const request = { filter: {}, timezone: 'UTC', leaseTermMs: LEASE_TERM_MS, dryRun: false, force: false };
  const policyOf = () => ({ keep: { last: KEPT }, minBackups: 1 });
  return prune({ store, policyOf, ...request }, operationContext());
}

export function sweptPrune(): Swept {
  return swept('prune, HTTP', openWorld, {
    backups: BACKUPS,
    async perform(_, place, store) {
      expect((await pruneIn(store)).removed).toHaveLength(BACKUPS - KEPT);
      expect(await place.expectSound()).toHaveLength(KEPT);
    },
    async tryFault(begun, place, fault) {
      const { world } = begun;
      const kept = await keptIn(place, KEPT);
      const store = place.openFaulty(fault);
      world.wires.inject(fault);
      const { said } = await outcomeOf(pruneIn(store));
      const isReached = world.wires.calm();
      await expectPruned(begun, place, kept, () => pruneIn(place.openLater()));
      return { said, isReached };
    },
  });
}

/** After a prune, whatever it came to. */
export async function expectPruned(
  begun: Begun,
  place: CasePlace,
  kept: Kept,
  again: () => Promise<unknown>,
): Promise<void> {
  const ids = kept.manifests.map(({ id }) => id);
  // What has a manifest is whole, and what is to be kept is there.
  expect((await place.expectWhole()).map(({ id }) => id).slice(-KEPT)).toEqual(ids);
  await again();
  expect((await place.expectSound()).map(({ id }) => id)).toEqual(ids);
  expect(await place.tags(kept.keys)).toEqual(kept.tags);
  await place.expectReleased(['prune']);
  expect((await place.states('prune')).at(-1)).toBe('succeeded');
  for (const newest of kept.manifests.slice(-1)) await begun.expectRestores(place, newest, begun.before);
}

function verifyIn(store: ObjectStore): Promise<Verification> {
  return verify({ store, filter: {}, selector: undefined, deep: true, keys: NO_KEYS }, operationContext());
}

/** Whoever gets other bytes than lie there may tell them as damaged, and must where they are data. */
const DECEIVES = /^(short-answer|damaged-answer)$/;

/** Keys of the objects whose content was asked for. */
function keysGotten(bucket: string, { prefix }: CasePlace, requests: readonly ProxiedRequest[]): readonly string[] {
  const place = `/${bucket}/${prefix}/`;
  return requests
    .filter(({ operation }) => operation === 'GetObject')
    .map(({ url }) => decodeURIComponent(url.pathname).slice(place.length));
}

/**
 * After a verification: whatever it says and proves to be read has come to its last byte as it lies there, and data that came
 * otherwise is told as damaged, by the proof too. `read`, `damaged`: keys of objects.
 */
async function expectProven(
  place: CasePlace,
  manifests: readonly Manifest[],
  value: Verification | undefined,
  { read, damaged }: { readonly read: readonly string[]; readonly damaged: readonly string[] },
): Promise<void> {
  const unread = manifests.filter((manifest) => !dataKeysOf(manifest).every((key) => read.includes(key)));
  const unreadIds = unread.map(({ id }) => id);
  const told = value?.backups ?? [];
  const whole = told.filter(({ failure }) => failure === undefined).map(({ manifest }) => manifest.id);
  const failed = told.filter(({ failure }) => failure !== undefined).map(({ manifest }) => manifest.id);
  expect(whole.filter((id) => unreadIds.includes(id))).toEqual([]);
  const deceived = unread.filter((manifest) => dataKeysOf(manifest).some((key) => damaged.includes(key)));
  expect(failed).toEqual(expect.arrayContaining(deceived.map(({ id }) => id)));
  const proofs = [...(await newestProofs(place.store, manifests, operationContext()))];
  const proofsThat = (passed: boolean): readonly string[] =>
    proofs.filter(([, { verify: proof }]) => proof?.passed === passed).map(([id]) => id);
  expect(proofsThat(true).filter((id) => [...unreadIds, ...failed].includes(id as BackupId))).toEqual([]);
  expect(proofsThat(false).toSorted()).toEqual(failed.toSorted());
}

export function sweptVerify(): Swept {
  return swept('verify, HTTP', openWorld, {
    backups: 2,
    async perform(_, __, store) {
      const { backups } = await verifyIn(store);
      expect(backups.map(({ failure, depth }) => failure ?? depth)).toEqual(['read', 'read']);
    },
    async tryFault({ world }, place, fault) {
      const kept = await keptIn(place);
      const store = place.openFaulty(fault);
      const requests: ProxiedRequest[] = [];
      world.wires.inject(fault, (request) => requests.push(request));
      const { said, value } = await outcomeOf(verifyIn(store));
      const { passed } = world.wires.http;
      const isReached = world.wires.calm();
      const cameWhole = requests.filter(({ index }) => passed.has(index) || fault.kind === 'slow');
      const hit = requests.filter(({ index }) => index === fault.position);
      await expectProven(place, kept.manifests, value, {
        read: keysGotten(world.bucket.name, place, cameWhole),
        damaged: fault.kind === 'damaged-answer' ? keysGotten(world.bucket.name, place, hit) : [],
      });
      const failed = value?.backups.find(({ failure }) => failure !== undefined) ?? value?.damaged[0];
      if (!DECEIVES.test(fault.kind)) {
        expect(failed).toBeUndefined();
        if (value !== undefined) expect(value.backups.map(({ depth }) => depth)).toEqual(['read', 'read']);
      }
      const next = await verifyIn(place.openLater());
      expect(next.backups.map(({ failure, depth }) => failure ?? depth)).toEqual(['read', 'read']);
      expect(await place.tags(kept.keys)).toEqual(kept.tags);
      expect((await place.states('verify')).at(-1)).toBe('succeeded');
      await place.expectSound();
      return { said: failed === undefined ? said : 'told as damaged', isReached };
    },
  });
}
