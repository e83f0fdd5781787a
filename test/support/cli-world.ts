import { openStore, openTracing, sealerOf } from '../../src/app.ts';
import type { CliWorld } from '../../src/cli/command.ts';
import { LogForm } from '../../src/cli/log-form.ts';
import type { Terminal } from '../../src/cli/terminal.ts';

/** A terminal that remembers what was written to it. */
export interface RecordingTerminal extends Terminal {
  readonly stdout: () => string;
  readonly stderr: () => string;
}

export function recordingTerminal(shape: Partial<Pick<Terminal, 'live' | 'columns' | 'tableColumns'>> = {}) {
  const out: string[] = [];
  const err: string[] = [];
  return {
    isTerminal: shape.live === true,
    live: false,
    columns: 80,
    tableColumns: 80,
    ...shape,
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    stdout: () => out.join(''),
    stderr: () => err.join(''),
  } satisfies RecordingTerminal;
}

/** What a process with only these variables gives to the command line. */
export function cliWorld(
  terminal: Terminal,
  environment: Readonly<Record<string, string>> = {},
  cwd = '/nonexistent',
): CliWorld {
  const adapters = { openStore, sealerOf, openTracing };
  const log = new LogForm([], { terminal, environment });
  return { adapters, terminal, environment, cwd, signal: new AbortController().signal, log };
}
