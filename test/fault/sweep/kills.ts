import { writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { errorTable } from '../../../src/common/error-table.ts';
import { expectExit } from '../../support/backups.ts';
import { type RunOptions, type RunResult, runPgark } from '../../support/cli.ts';
import type { FaultProxy } from '../../support/fault-proxy.ts';
import { makeTempDirectory } from '../../support/temp.ts';
import { FEW_ROWS, openLogicalWorld } from './logical.ts';
import { BACKUPS, expectPruned, KEPT } from './maintenance.ts';
import {
  type Begun,
  expectBackedUp,
  expectRestored,
  keptIn,
  type Operation,
  swept,
  type Target,
  type World,
} from './operations.ts';
import { openPhysicalWorld } from './physical.ts';
import { type CasePlace, LEASE_TERM_MS } from './place.ts';
import type { FaultCase, Swept } from './sweep.ts';
import type { Wires } from './wires.ts';

export interface CommandOptions extends RunOptions {
  /** Of the lease, and so of those who wait for a dead run's. */
  readonly leaseTermMs?: number;
  /** How many backups `prune` keeps. Default: all that there are. */
  readonly kept?: number;
}

/** A command line of pgark: as a process of its own if it is to be killed. */
export async function command(
  { world }: Begun,
  place: CasePlace,
  args: readonly string[],
  { leaseTermMs = LEASE_TERM_MS, kept = 99, ...options }: CommandOptions = {},
): Promise<RunResult> {
  await using directory = await makeTempDirectory();
  const config = directory.join('pgark.yaml');
  const { source, url, format } = world.database;
  const reached = new URL(url);
  reached.port = String(world.wires.port);
  const settings = {
    version: 1,
    storages: { s3: { ...world.bucket.inFile(world.wires.http.endpoint), prefix: place.prefix } },
    retention: { kept: { keep: { last: kept }, min_backups: 1 } },
    defaults: {
      lease_term: `${leaseTermMs}ms`,
      retry: { delay: '50ms' },
      compression: { algorithm: format === 'physical' ? 'zstd' : 'none' },
    },
    databases: {
      [source]: { url: reached.href, globals: 'none', jobs: { job: { format, to: ['s3'], retention: 'kept' } } },
    },
  };
  await writeFile(config, JSON.stringify(settings));
  return await runPgark([...args, '--config', config], options);
}

async function succeed(begun: Begun, place: CasePlace, args: readonly string[]): Promise<void> {
  expectExit(await command(begun, place, args, optionsOf(args)), 0);
}

function optionsOf([verb]: readonly string[]): CommandOptions {
  return verb === 'prune' ? { kept: KEPT } : {};
}

const KINDS = ['killed-before', 'killed-after'] as const;

/** At the request of that index: when the store has not seen it, or when it is done and nobody has heard the answer. */
function killCases({ http }: Wires): readonly FaultCase[] {
  return [...http.passed].flatMap(([position, { operation }]) =>
    KINDS.map((kind) => ({ position, what: `request ${position} ${operation}`, kind, retriesMax: 0 })),
  );
}

/** Whoever is told of the process that makes the requests, for it to be killed at that one. */
export function killAt(http: FaultProxy, fault: FaultCase): NonNullable<RunOptions['onStarted']> {
  const started = Promise.withResolvers<{ kill(signal: NodeJS.Signals): void }>();
  const kill = async (): Promise<void> => (await started.promise).kill('SIGKILL');
  http.setFaults(({ index }) => {
    if (index !== fault.position) return undefined;
    if (fault.kind === 'killed-after') return { kind: 'withhold-answer', onDone: () => void kill() };
    void kill();
    return { kind: 'silence' };
  });
  return started.resolve;
}

async function killedAt(
  begun: Begun,
  place: CasePlace,
  fault: FaultCase,
  args: readonly string[],
): Promise<{ readonly said: string; readonly isReached: boolean }> {
  const { http } = begun.world.wires;
  place.mayHoldProbes();
  const onStarted = killAt(http, fault);
  const result = await command(begun, place, args, { ...optionsOf(args), onStarted });
  await http.idle();
  if (result.signal !== 'SIGKILL') expectExit(result, 0);
  return { said: result.signal === 'SIGKILL' ? 'killed' : 'done', isReached: result.signal === 'SIGKILL' };
}

function sweptKill(name: string, openWorld: () => Promise<World>, operation: Omit<Operation, 'casesOf'>): Swept {
  return swept(`${name}, SIGKILL`, openWorld, { ...operation, casesOf: killCases });
}

function killedBackup(name: string, openWorld: () => Promise<World>): Swept {
  return sweptKill(`backup ${name}`, openWorld, {
    perform: (begun, place) => succeed(begun, place, ['backup']),
    async tryFault(begun, place, fault) {
      const kept = await keptIn(place);
      const outcome = await killedAt(begun, place, fault, ['backup']);
      place.setLater();
      await succeed(begun, place, ['backup']);
      await expectBackedUp(begun, place, kept, undefined);
      return outcome;
    },
  });
}

const restoreInto = ({ args }: Target): readonly string[] => ['restore', 'latest', ...args];

/**
 * `isInPlace`: what a killed restore leaves is in the target itself. It is all of it, or no server starts on it, the next restore says
 * what it is, and replaces it when it is told to.
 */
function killedRestore(name: string, openWorld: () => Promise<World>, { isInPlace = false } = {}): Swept {
  return sweptKill(`restore ${name}`, openWorld, {
    async perform(begun, place) {
      await using target = begun.world.target();
      await succeed(begun, place, restoreInto(target));
      expect(await target.content()).toEqual(begun.before);
    },
    async tryFault(begun, place, fault) {
      await using target = begun.world.target();
      const outcome = await killedAt(begun, place, fault, restoreInto(target));
      place.setLater();
      if (isInPlace && (await target.made()).includes(target.name)) {
        const refused = await command(begun, place, restoreInto(target));
        expectExit(refused, errorTable['target-not-empty'].exit);
        if (!refused.stderr.includes('is not empty')) {
          expect(refused.stderr).toContain('holds an unfinished restore');
          await expect(target.content()).rejects.toThrow();
          await succeed(begun, place, [...restoreInto(target), '--replace-unfinished']);
        }
      }
      const again = (): Promise<void> => succeed(begun, place, restoreInto(target));
      await expectRestored(begun, place, target, { again, mayHold: true });
      return outcome;
    },
  });
}

function killedPrune(): Swept {
  return sweptKill('prune', () => openLogicalWorld('plain', 'HTTP', FEW_ROWS), {
    backups: BACKUPS,
    perform: (begun, place) => succeed(begun, place, ['prune']),
    async tryFault(begun, place, fault) {
      const kept = await keptIn(place, KEPT);
      const outcome = await killedAt(begun, place, fault, ['prune']);
      place.setLater();
      await expectPruned(begun, place, kept, () => succeed(begun, place, ['prune']));
      return outcome;
    },
  });
}

const plain = (): Promise<World> => openLogicalWorld('plain', 'HTTP');
const directory = (): Promise<World> => openLogicalWorld('directory', 'HTTP');
const physical = (): Promise<World> => openPhysicalWorld('HTTP');

export const KILLED: readonly Swept[] = [
  killedBackup('plain', plain),
  killedBackup('directory', directory),
  killedBackup('physical', physical),
  killedRestore('plain', plain),
  killedRestore('directory', directory),
  killedRestore('physical', physical, { isInPlace: true }),
  killedPrune(),
];
