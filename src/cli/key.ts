import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { systemClock } from '../common/clock.ts';
import { messageOf, PgarkError, systemCodeOf } from '../common/errors.ts';
import { action, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { registerRecoveryKit } from './recovery-kit.ts';

export function registerKey(program: Command, world: CliWorld): void {
  const key = program
    .command('key')
    .summary('make encryption keys, and print what to keep')
    .description('Makes encryption keys, and prints what to keep beside them.');
  const generate = key
    .command('generate')
    .summary('make an age key pair')
    .description(
      'Makes an age key pair: the identity (secret, needed to restore) and the recipient (public, needed to back up). Keep the identity away from the machine that makes the backups.',
    )
    .option('--to-file <file>', 'write the identity to a new file of mode 0600 (default: to stdout)');
  addExamples(generate, [['pgark key generate --to-file pgark.key', 'the key in a file, the recipient on the screen']]);
  action(generate, world, async (run, _args, options) => {
    const { formatIdentityFile, generateAgeIdentity } = await import('../pipeline/encryption/age-keys.ts');
    const { identity, recipient } = await generateAgeIdentity();
    const text = formatIdentityFile(identity, recipient, systemClock.now());
    if (typeof options.toFile !== 'string') {
      run.result({ identity: identity.reveal(), recipient }, () => text);
      run.note(`public key: ${recipient}\n`);
      return;
    }
    try {
      await writeFile(options.toFile, text, { mode: 0o600, flag: 'wx' });
    } catch (error) {
      throw cannotWrite(options.toFile, error);
    }
    run.result({ file: options.toFile, recipient }, () => `public key: ${recipient}\n`);
    run.note(
      `the identity is in ${options.toFile}: keep a copy where the backups are not, nothing restores without it\n`,
    );
  });
  registerRecoveryKit(key, world);
}

function cannotWrite(file: string, cause: unknown): PgarkError {
  switch (systemCodeOf(cause)) {
    case 'EEXIST':
      return new PgarkError('config-unreadable', `cannot write ${file}: there is a file of that name`, {
        hint: 'pgark never overwrites a key; choose another name',
        cause,
      });
    case 'ENOENT':
      return new PgarkError('config-unreadable', `cannot write ${file}: its folder does not exist`, {
        hint: 'make the folder first, or choose another one',
        cause,
      });
    default:
      return new PgarkError('config-unreadable', `cannot write ${file}: ${messageOf(cause)}`, {
        hint: 'check the folder and its permissions',
        cause,
      });
  }
}
