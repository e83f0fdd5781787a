import { expect, test } from 'vitest';
import type { Manifest } from '../../src/repository/manifest.ts';
import { untilExit } from '../support/backups.ts';
import type { RunResult } from '../support/cli.ts';
import { HTTP_KINDS, injectHttp, isSilent } from '../fault/sweep/http-faults.ts';
import { command, type CommandOptions, killAt } from '../fault/sweep/kills.ts';
import { openLogicalWorld } from '../fault/sweep/logical.ts';
import { Begun } from '../fault/sweep/operations.ts';
import { openPhysicalWorld } from '../fault/sweep/physical.ts';
import type { CasePlace } from '../fault/sweep/place.ts';
import { SEED, seededFractions } from '../fault/sweep/seeded.ts';
import { CHUNK_FAULTS } from '../fault/sweep/wires.ts';

const MINUTES = Number(process.env['PGARK_SOAK_MINUTES'] ?? '30');
const ROWS = 300;
const KEPT = 4;
/** A dead run is not waited for long; a living one keeps its lease on a busy machine. */
const LEASE_TERM_MS = 8_000;
const EXITS = { done: 0, locked: 11 } as const;

const WORLDS = {
  plain: () => openLogicalWorld('plain', 'TCP', ROWS),
  directory: () => openLogicalWorld('directory', 'TCP', ROWS),
  physical: () => openPhysicalWorld('TCP'),
} as const;
const TROUBLES = ['nothing', 'killed', 'store', 'store', 'server', 'server'] as const;
const VERBS = ['backup', 'backup', 'backup', 'prune'] as const;
/** Requests that a run makes, or answers that it gets, at about the most. */
const REQUESTS = 110;

/** Runs of one database, one after the other, each with a trouble of its own; what is known of its backups. */
class Soaked {
  readonly begun: Begun;
  readonly place: CasePlace;
  readonly fraction: () => number;
  /** What each backup that was ever committed holds: one counts as that when it is there after its run, whatever that said. */
  readonly contents = new Map<string, unknown>();
  /** Those of them that were restored here, and held that. */
  readonly restored = new Set<string>();
  /** Those of them whose run did not say that it was done. */
  readonly unsaid = new Set<string>();
  readonly outcomes = new Map<string, number>();
  /** The newest backup that was read to its last byte here: retention keeps it, whatever comes after it. */
  #proven: string | undefined;

  constructor(begun: Begun, place: CasePlace, fraction: () => number) {
    this.begun = begun;
    this.place = place;
    this.fraction = fraction;
  }

  #drawn<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.fraction() * items.length)] as Item;
  }

  run(verb: 'backup' | 'prune', options: CommandOptions = {}): Promise<RunResult> {
    const changes = { leaseTermMs: LEASE_TERM_MS, ...options };
    if (verb === 'backup') return command(this.begun, this.place, ['backup'], changes);
    return command(this.begun, this.place, ['prune', '--force'], { ...changes, kept: KEPT });
  }

  async round(): Promise<void> {
    const { world } = this.begun;
    const { wires } = world;
    await world.change();
    const content = await world.content();
    const [trouble, verb] = [this.#drawn(TROUBLES), this.#drawn(VERBS)];
    const position = Math.floor(this.fraction() * REQUESTS);
    const fault = { position, what: verb, retriesMax: 3 };
    if (verb === 'prune') await this.expectDueRestore();
    let what: string = trouble;
    let options: CommandOptions = {};
    wires.count();
    if (trouble === 'killed') {
      what = this.fraction() < 0.5 ? 'killed-before' : 'killed-after';
      options = { onStarted: killAt(wires.http, { ...fault, kind: what }) };
    } else if (trouble === 'store') {
      what = this.#drawn(HTTP_KINDS.filter((kind) => !isSilent({ ...fault, kind })));
      injectHttp(wires.http, { ...fault, kind: what });
    } else if (trouble === 'server') {
      what = this.#drawn(CHUNK_FAULTS);
      wires.inject({ ...fault, kind: what });
    }
    const { exitCode, signal, stderr } = await this.run(verb, options);
    await wires.http.idle();
    wires.calm();
    expect(`${verb}, ${trouble} ${what}: ${stderr}`).not.toMatch(/invariant|\[object|report the stack trace/);
    const outcome = `${verb}, ${trouble}: ${signal ?? (exitCode === EXITS.done ? 'done' : `exit ${exitCode}`)}`;
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    await this.note(content, verb === 'backup' && exitCode === EXITS.done ? 'said' : 'unsaid');
  }

  /**
   * What was committed stays, but for what retention lets go, and nothing goes that was not restored. What is new holds this: one
   * backup if the run said that it made one; else none, or one whose commit came through and whose answer was lost.
   */
  async note(content: unknown, made: 'said' | 'unsaid'): Promise<void> {
    const there = (await this.place.manifests()).map(({ id }) => id as string);
    const known = [...this.contents.keys()];
    expect(there).toEqual(expect.arrayContaining(known.slice(-KEPT)));
    expect(known.filter((id) => !there.includes(id) && !this.restored.has(id))).toEqual([]);
    const added = there.filter((id) => !this.contents.has(id));
    expect(added.length).toBeLessThanOrEqual(1);
    if (made === 'said') expect(added).toHaveLength(1);
    for (const id of added) {
      this.contents.set(id, content);
      if (made === 'unsaid') this.unsaid.add(id);
    }
  }

  /** The gate: every committed backup restores, and so it is restored before a prune may delete it. */
  async expectDueRestore(): Promise<void> {
    const manifests = await this.place.manifests();
    const due = this.#newest(manifests.map(({ id }) => id)).slice(KEPT);
    await this.expectRestore(manifests.filter(({ id }) => due.includes(id) && !this.restored.has(id)));
  }

  async expectRestore(manifests: readonly Manifest[]): Promise<void> {
    for (const manifest of manifests) {
      await this.begun.expectRestores(this.place, manifest, this.contents.get(manifest.id));
      this.restored.add(manifest.id);
    }
  }

  /** All that are there. */
  async expectWhole(): Promise<readonly Manifest[]> {
    const manifests = await this.place.expectWhole();
    [this.#proven] = this.#newest(manifests.map(({ id }) => id));
    return manifests;
  }

  /** What a prune that nothing happens to leaves. */
  expectedToStay(): readonly string[] {
    const kept = this.#newest([...this.contents.keys()]).slice(0, KEPT);
    return this.#newest([...new Set([...kept, ...(this.#proven === undefined ? [] : [this.#proven])])]);
  }

  #newest(ids: readonly string[]): readonly string[] {
    return ids.toSorted().reverse();
  }
}

test.concurrent.each(['plain', 'directory', 'physical'] as const)(
  `every committed backup restores, whatever happened meanwhile: %s (TEST_SEED=${SEED})`,
  { timeout: (MINUTES + 20) * 60_000 },
  async (format) => {
    await using begun = await Begun.open(WORLDS[format], 1);
    await using place = await begun.place();
    place.mayHoldProbes();
    const soaked = new Soaked(begun, place, seededFractions(SEED, format));
    await soaked.note(begun.before, 'said');
    const endMs = performance.now() + MINUTES * 60_000;
    for (let round = 1; performance.now() < endMs; round += 1) {
      await soaked.round();
      if (round % 15 === 0) await soaked.expectWhole();
    }
    const content = await begun.world.content();
    await untilExit(EXITS.done, [EXITS.locked], () => soaked.run('backup'));
    await soaked.note(content, 'said');
    await soaked.expectDueRestore();
    await untilExit(EXITS.done, [EXITS.locked], () => soaked.run('prune'));
    const left = (await place.expectSound()).map(({ id }) => id as string);
    expect(left.toSorted().reverse()).toEqual(soaked.expectedToStay());
    await soaked.expectRestore(await soaked.expectWhole());
    const { contents, restored, unsaid } = soaked;
    expect([...contents.keys()].filter((id) => !restored.has(id))).toEqual([]);
    const lines = [...soaked.outcomes].map(([outcome, count]) => `  ${count} ${outcome}`).sort();
    process.stdout.write(
      `${format}, ${MINUTES} min (TEST_SEED=${SEED}): ${contents.size} backups committed, ${unsaid.size} of them by runs that did not say so; ${restored.size} restored\n${lines.join('\n')}\n`,
    );
  },
);
