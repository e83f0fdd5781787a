import type { Command } from 'commander';
import type { Config, StorageConfig } from '../config/model.ts';
import { type ProbedStorage, type ProbedTrait, probeStorage } from '../operations/probe-storage.ts';
import type { ProviderProfile } from '../storage/object-store.ts';
import { attempt } from './attempt.ts';
import { action, chooseStorages, type CliWorld, type CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { addExamples } from './help.ts';
import { locationOf } from './storage-location.ts';
import { formatTable } from './table.ts';

export function registerProbe(storage: Command, world: CliWorld): void {
  const command = storage
    .command('probe')
    .summary('try what a storage can do, and what this key may')
    .description(
      'Tries what a storage can do and what its key may, on small objects of its own that are removed again, and says what that means where it is not the best. It fails where backups could not be made, or not be deleted although a job of the configuration has retention.',
    )
    .argument('[storages...]', 'storages of the configuration (default: all)');
  addExamples(command, [['pgark storage probe', 'before the first backup, and after a change of keys']]);
  action(command, world, async (run, names) => {
    const config = await run.config(['storage']);
    const context = run.context(config);
    const probed: Probed[] = [];
    for (const each of chooseStorages(config, names)) {
      const of = { storage: each.name, type: each.type };
      const opened = await attempt(each.name, run, () => run.open(each, config));
      if ('error' in opened) {
        const trait = { name: 'open', value: 'no', state: 'failed', error: opened.error } as const;
        probed.push({ ...of, location: locationOf(each), profile: undefined, traits: [trait] });
      } else {
        const found = await probeStorage(opened.value, { needsDelete: needsDelete(config, each) }, context);
        probed.push({ ...of, location: opened.value.location, ...found });
      }
    }
    const json = probed.map(probedJson);
    run.result(
      { storages: json },
      () => probed.map((each) => describeProbed(each, run)).join('\n'),
      () => json.map((each) => ({ kind: 'storage', ...each })),
    );
    const failure = probed.flatMap(({ traits }) => traits).find((trait) => trait.state === 'failed');
    if (failure !== undefined) throw failure.error;
  });
}

interface Probed extends ProbedStorage {
  readonly storage: string;
  readonly type: StorageConfig['type'];
  readonly location: string;
}

function needsDelete({ databases }: Config, { name }: StorageConfig): boolean {
  const jobs = [...databases.values()].flatMap((source) => [...source.jobs.values()]);
  return jobs.some((job) => job.retention !== undefined && job.to.includes(name));
}

function describeProbed({ storage, location, traits }: Probed, run: CommandRun): string {
  const table = formatTable(
    [{ title: 'TRAIT' }, { title: 'FOUND' }],
    traits.map(({ name, value }) => [name, value]),
    run.world.terminal.tableColumns,
  );
  const remarks = traits.map(describeRemark).filter((remark) => remark !== '');
  return `${storage}  ${location}\n${table}${remarks.length === 0 ? '' : `\n${remarks.join('')}`}`;
}

/** What a trait means, where it is not as good as it could be. */
function describeRemark(trait: ProbedTrait): string {
  if (trait.state === 'failed') return `✖ ${trait.name}: ${trait.error.message}\n    ${trait.error.hint}\n`;
  return trait.state === 'note' && trait.meaning !== undefined ? `! ${trait.name}: ${trait.meaning}\n` : '';
}

function probedJson({ storage, type, location, profile, traits }: Probed): Record<string, unknown> {
  const failed = traits.some(({ state }) => state === 'failed');
  const noted = traits.some(({ state }) => state === 'note');
  return {
    storage,
    type,
    location,
    state: failed ? 'failed' : noted ? 'note' : 'ok',
    profile: profile === undefined ? null : profileJson(profile),
    traits: traits.map((trait) =>
      trait.state === 'failed'
        ? { name: trait.name, value: trait.value, state: trait.state, error: reportError(trait.error) }
        : { name: trait.name, value: trait.value, state: trait.state, meaning: trait.meaning ?? null },
    ),
  };
}

/** Null: there is no such limit, or the store does not say. */
function profileJson(profile: ProviderProfile): Record<string, unknown> {
  const { partCountMax, protection } = profile;
  return {
    conditional_writes: profile.conditionalWrites,
    part_count_max: partCountMax === Number.MAX_SAFE_INTEGER ? null : partCountMax,
    part_bytes_min: profile.partBytesMin,
    equal_parts: profile.equalParts,
    part_checksum: profile.partChecksum,
    clock_skew_ms: profile.clockSkewMs,
    versioning: protection?.versioning ?? null,
    object_lock: protection?.objectLock ?? null,
    default_lock: protection?.defaultLock ?? null,
  };
}
