import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { projectRoot, readPage } from '../../test/support/markdown.ts';
import { exitCodes } from '../common/error-table.ts';
import { buildProgram, loadCommands } from './program.ts';

const read = (name: string): Promise<string> => readFile(path.join(projectRoot, name), 'utf8');

describe('deploy/systemd', async () => {
  const units = new Map<string, string>();
  for (const name of ['pgark.service', 'pgark-once.service', 'pgark-once.timer'])
    units.set(name, await read(`deploy/systemd/${name}`));
  const services = [...units].filter(([name]) => name.endsWith('.service'));

  test('shuts both services in to the same degree', () => {
    const [daemon = [], once = []] = services.map(([, text]) => sandboxOf(text));
    expect(once).toEqual(daemon);
    expect(daemon.length).toBeGreaterThan(20);
    // After all that takes resources was taken away: what threads that compress give way by.
    for (const [, text] of services) expect(settingsOf(text, 'SystemCallFilter').at(-1)).toBe('setpriority');
  });

  // By default systemd signals pg_dump too, and the backup that should be ended in good order ends at once.
  test('signals pgark alone, and leaves it longer to stop than it leaves its backups', () => {
    for (const [, text] of services) {
      expect(settingsOf(text, 'KillMode')).toEqual(['mixed']);
      const [stop = ''] = settingsOf(text, 'TimeoutStopSec');
      const grace = /^Environment=PGARK_STOP_GRACE=(\d+)s$/m.exec(text)?.[1] ?? '0';
      expect(Number(stop)).toBeGreaterThan(Number(grace) + 10);
    }
  });

  test('runs commands that there are, and knows exit statuses that there are', async () => {
    const program = buildProgram(cliWorld(recordingTerminal()), await loadCommands());
    const names = program.commands.map((command) => command.name());
    for (const [, text] of services) {
      const lines = ['ExecStart', 'ExecStopPost'].flatMap((key) => settingsOf(text, key));
      const called = lines.map((line) => /^-?pgark (\w+)/.exec(line)?.[1] ?? line);
      expect(names).toEqual(expect.arrayContaining(called));
      for (const status of settingsOf(text, 'RestartPreventExitStatus').join(' ').split(' ').filter(Boolean))
        expect(exitCodes).toHaveProperty(status);
    }
  });

  test('is installed by the page whole, and where its units look', async () => {
    const { text } = await readPage('docs/platforms.md');
    const [environmentFile = ''] = settingsOf(units.get('pgark.service') ?? '', 'EnvironmentFile');
    expect(text).toContain(environmentFile);
    expect(await read('deploy/systemd/pgark.sysusers.conf')).toMatch(/^u pgark .* \/var\/lib\/pgark$/m);
  });
});

/** The values of a key of a unit, in their order. */
function settingsOf(unit: string, key: string): readonly string[] {
  return [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value);
}

/** All that a service may not do. */
function sandboxOf(unit: string): readonly string[] {
  const keys =
    /^(?:NoNewPrivileges|CapabilityBoundingSet|Protect|Private|Restrict[A-Z]|LockPersonality|SystemCall|UMask|User=|Group=)/;
  return unit.split('\n').filter((line) => keys.test(line));
}
