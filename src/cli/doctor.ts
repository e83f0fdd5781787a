import type { Command } from 'commander';
import { asPgarkError, isPgarkError } from '../common/errors.ts';
import { foreignVariables, type ForeignVariable } from '../config/foreign-variables.ts';
import type { Config } from '../config/model.ts';
import { unreferenced } from '../config/unreferenced.ts';
import { examineSource, examineStore, type Finding, needsOf } from '../operations/doctor.ts';
import { action, chooseSources, type CliWorld, type CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { jsonLines } from './json.ts';

export function registerDoctor(program: Command, world: CliWorld): void {
  const command = program
    .command('doctor')
    .summary('check everything a backup and a restore need')
    .description('Tries connections, privileges, client programs, keys and storages, and says what to mend.')
    .argument('[databases...]', 'sources or databases of the configuration (default: all)');
  action(command, world, async (run, names) => {
    const findings = await examineAll(run, names);
    const json = findings.map(findingJson);
    run.result(
      { findings: json },
      () => findings.map(describeFinding).join(''),
      () => jsonLines('finding', json),
    );
    const failure = findings.find((finding) => finding.state === 'failed');
    if (failure !== undefined) throw failure.error;
  });
}

/** Variables of other tools are told of although the configuration is wrong: often it is wrong for want of them. */
async function examineAll(run: CommandRun, names: readonly string[]): Promise<Finding[]> {
  const { environment } = run.world;
  const usesFile = run.options.config !== undefined || (environment.PGARK_CONFIG ?? '') !== '';
  const findings: Finding[] = [
    { subject: 'node', state: 'ok', found: process.version },
    ...(usesFile ? [] : foreignVariables(environment).map(foreignFinding)),
  ];
  let config: Config;
  try {
    config = await run.config(['database', 'storage']);
  } catch (error) {
    if (!isPgarkError(error)) throw error;
    return [...findings, { subject: 'configuration', state: 'failed', error }];
  }
  const found = config.source === 'environment' ? 'from the environment' : config.source.file;
  return [...findings, { subject: 'configuration', state: 'ok', found }, ...(await examine(run, config, names))];
}

/** `POSTGRES_DATABASE (of postgres-backup-s3): not read by pgark; POSTGRES_DB takes its place`. */
function foreignFinding({ name, tools, own, ownIsSet, remark }: ForeignVariable): Finding {
  const instead =
    own === undefined ? 'not read by pgark' : `not read by pgark; ${own} ${ownIsSet ? 'is set' : 'takes its place'}`;
  const found = own === name ? 'read by pgark in its own way' : instead;
  return {
    subject: `${name} (of ${tools})`,
    state: 'note',
    found: remark === undefined ? found : `${found}: ${remark}`,
  };
}

/** Tries the connections, keys and storages of a configuration. */
export async function examine(run: CommandRun, config: Config, names: readonly string[]): Promise<Finding[]> {
  const context = run.context(config);
  const findings: Finding[] = unreferenced(config).map(({ setting: subject, remark: found }) => ({
    subject,
    state: 'note',
    found,
  }));
  const sources = chooseSources(config, names);
  for (const source of sources) {
    findings.push(...(await examineSource(source.connection, context, needsOf([...source.jobs.values()]))));
    for (const job of source.jobs.values()) {
      if (job.encryption === undefined) continue;
      const opens = config.decryptionKeys.identities.length > 0;
      if (job.incremental && 'recipients' in job.encryption && !opens) findings.push(KEYLESS);
      const subject = `encryption ${job.encryption.name}`;
      try {
        const sealer = await run.world.adapters.sealerOf(job.encryption);
        findings.push({
          subject,
          state: 'ok',
          found: `${job.encryption.scheme}, key ${sealer?.record.keyFingerprints.join(', ') ?? ''}`,
        });
      } catch (error) {
        findings.push({ subject, state: 'failed', error: asPgarkError(error) });
      }
    }
  }
  for (const storage of config.storages.values()) {
    const jobs = sources.flatMap((source) => [...source.jobs.values()]).filter((job) => job.to.includes(storage.name));
    const store = await run.open(storage, config);
    findings.push(
      ...(await examineStore(
        store,
        jobs.some((job) => job.retention !== undefined),
        context,
      )),
    );
  }
  return findings;
}

/** The list of files that an incremental backup is made by is encrypted too. */
const KEYLESS: Finding = {
  subject: 'incremental backups',
  state: 'note',
  found: 'no identity is configured that decrypts an earlier backup’s list of files: every one is a full one',
};

export function findingJson(finding: Finding): Record<string, unknown> {
  if (finding.state === 'failed')
    return { subject: finding.subject, state: finding.state, error: reportError(finding.error) };
  return { ...finding };
}

export function describeFinding(finding: Finding): string {
  if (finding.state === 'failed') return `✖ ${finding.subject}: ${finding.error.message}\n    ${finding.error.hint}\n`;
  return `${finding.state === 'ok' ? '✓' : '!'} ${finding.subject}: ${finding.found}\n`;
}
