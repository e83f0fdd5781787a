import { access } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { systemClock } from '../common/clock.ts';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import { differingSettings } from '../config/compare-configs.ts';
import { environmentAsFile } from '../config/environment-as-file.ts';
import type { Environment } from '../config/environment-reader.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import type { Finding } from '../operations/doctor.ts';
import { shellWord } from '../common/shell-word.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { describeFinding, examine, findingJson } from './doctor.ts';
import { addExamples } from './help.ts';
import { answersOfEnvironment, answersOfFlags, besides, type InitAnswers } from './init-answers.ts';
import { cannotWrite, NewFiles } from './init-files.ts';
import { questionsOn } from './questions.ts';

type Options = Readonly<Record<string, unknown>>;

const STANDARD_FILE = 'pgark.yaml';

/** What was written, and what it is. */
interface Written {
  readonly config: Config;
  readonly variables: readonly string[];
  readonly secretFiles: readonly string[];
  readonly key: { readonly file: string; readonly recipient: string } | undefined;
}

export function registerInit(program: Command, world: CliWorld): void {
  const command = program
    .command('init')
    .summary('write a first configuration file')
    .description(
      'Writes a configuration file (--config, PGARK_CONFIG, or pgark.yaml), of mode 0600 and without secrets: by flags, by questions on a terminal, or of the environment as it is. Then it tries what it wrote, as doctor does.',
    )
    .option('--from-env', 'write down what the environment says, with the same meaning')
    .option('--database-url-file <file>', 'file that holds the URL of the database')
    .option(
      '--storage <url>',
      'file:DIR, s3://bucket/prefix or rclone:remote:path; keys and endpoint of S3 as S3_… or AWS_… in the environment',
    )
    .option('--schedule <schedule>', 'cron expression or interval (default: 0 2 * * *)')
    .addOption(
      new Option('--format <format>', 'of the backups (default: directory)').choices([
        'plain',
        'directory',
        'physical',
      ]),
    )
    .option('--keep <days>', 'days that backups are kept, or forever (default: 7)')
    .option('--name <name>', 'of the source (default: the database’s)')
    .option('--encrypt [recipient]', 'encrypt for this public key of age, or with a new key pair beside the file')
    .option('--force', 'replace the file if there is one; never a key')
    .option('--no-check', 'do not try what was written');
  addExamples(command, [
    ['pgark init', 'asks for what it needs, on a terminal'],
    ['pgark init --database-url-file db.url --storage file:/backups --encrypt', 'the same without questions'],
    ['pgark init --from-env -c /etc/pgark/pgark.yaml', 'from the environment to a file'],
  ]);
  action(command, world, async (run, _args, options) => {
    const given = run.options.config ?? world.environment['PGARK_CONFIG'];
    const file = given === undefined || given === '' ? STANDARD_FILE : given;
    const replaces = options['force'] === true;
    if (!replaces)
      await refuseExisting(resolve(world.cwd, file), '--force replaces it, or choose another name: --config FILE');
    const answers = await answersOf(options, { ...world, file });
    const written = await write(answers, { ...world, file, replaces });
    const findings = options['check'] === false ? [] : await tryOut(run, written.config);
    run.result(
      {
        file: resolve(world.cwd, file),
        variables: written.variables,
        secret_files: written.secretFiles,
        key: written.key && { file: written.key.file, recipient: written.key.recipient },
        findings: findings.map(findingJson),
      },
      () => describe(file, written, findings),
    );
  });
}

async function answersOf(options: Options, world: CliWorld & { readonly file: string }): Promise<InitAnswers> {
  if (options['fromEnv'] === true) return answersOfEnvironment(options, world);
  using questions = questionsOn(world);
  return await answersOfFlags(options, world, questions);
}

/** Writes all files, or none. Errors: `config-…`, `storage-config-invalid`, `cron-invalid`, `key-invalid`. */
async function write(
  { env: said, secrets, makesKey }: InitAnswers,
  { cwd, file, replaces }: { readonly cwd: string; readonly file: string; readonly replaces: boolean },
): Promise<Written> {
  const { PGARK_CONFIG: _config, ...answered } = said;
  const path = resolve(cwd, file);
  const files = new NewFiles();
  try {
    const key = makesKey ? await makeKey(files, besides({ cwd, file }, 'key')) : undefined;
    for (const [secretFile, secret] of secrets) await files.write(secretFile, `${secret}\n`, { replaces });
    const env: Environment =
      key === undefined ? answered : { ...answered, BACKUP_ENCRYPTION: 'age', BACKUP_ENCRYPTION_KEY: key.recipient };
    const { text, variables } = await environmentAsFile(env, { cwd, folder: dirname(path) });
    const expected = await loadConfig({ env, cwd });
    let config = expected;
    await files.write(path, text, {
      replaces,
      check: async (draft) => {
        config = await loadConfig({ file: draft, env, cwd });
        refuseOtherMeaning(differingSettings(expected, config), file);
      },
    });
    await files.finish();
    return { config, variables, key, secretFiles: [...secrets.keys()] };
  } catch (error) {
    await files.undo();
    throw error;
  }
}

async function makeKey(files: NewFiles, file: string): Promise<NonNullable<Written['key']>> {
  await refuseExisting(file, 'a key is never replaced; say its public key, which is in it: --encrypt age1…');
  const { formatIdentityFile, generateAgeIdentity } = await import('../pipeline/encryption/age-keys.ts');
  const { identity, recipient } = await generateAgeIdentity();
  await files.write(file, formatIdentityFile(identity, recipient, systemClock.now()), { replaces: false });
  return { file, recipient };
}

async function refuseExisting(path: string, hint: string): Promise<void> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (!isThere) return;
  throw new PgarkError(
    'config-unreadable',
    cannotWrite(path, Object.assign(new Error('there'), { code: 'EEXIST' })).message,
    {
      hint,
    },
  );
}

/** A relative path within a URL starts at another folder in a file than in the environment: it cannot be written down. */
function refuseOtherMeaning(differing: readonly string[], file: string): void {
  if (differing.length === 0) return;
  throw new PgarkError('config-invalid', `${file} would not mean what was said: ${differing.join(', ')}`, {
    hint: 'write paths within URLs from the root on, and values without blanks around them',
  });
}

/** What was written stays, whatever cannot be tried. */
async function tryOut(run: CommandRun, config: Config): Promise<readonly Finding[]> {
  try {
    return await examine(run, config, []);
  } catch (thrown) {
    run.world.signal.throwIfAborted();
    return [{ subject: 'check', state: 'failed', error: asPgarkError(thrown) }];
  }
}

function describe(file: string, { variables, secretFiles, key }: Written, findings: readonly Finding[]): string {
  const config = ` -c ${shellWord(file)}`;
  const failed = findings.some(({ state }) => state === 'failed');
  const lines = [
    `wrote ${file}`,
    ...secretFiles.map((each) => `wrote ${each}, which holds a secret`),
    ...(key === undefined
      ? []
      : [
          `wrote ${key.file}: KEEP A COPY of it where neither the backups nor the database are; nothing restores without it`,
        ]),
    ...(variables.length === 0 ? [] : [`it needs these variables wherever it is used: ${variables.join(', ')}`]),
  ];
  const next = [
    [`pgark doctor${config}`, failed ? 'when what is marked with ✖ is mended' : 'tries all of it again'],
    [`pgark backup${config}`, 'the first backup'],
    [`pgark daemon${config}`, 'by schedule; or pgark once by cron'],
    ...(key === undefined
      ? []
      : [[`pgark restore latest --to-db COPY${config} --identity ${shellWord(key.file)}`, 'try it once']]),
  ];
  const width = Math.max(...next.map(([command = '']) => command.length));
  return [
    ...lines,
    '',
    ...findings.map((finding) => describeFinding(finding).trimEnd()),
    ...(findings.length === 0 ? [] : ['']),
    'next',
    ...next.map(([command = '', does = '']) => `  ${command.padEnd(width)}  ${does}`),
    '',
  ].join('\n');
}
