import { resolve } from 'node:path';
import { messageOf } from '../common/errors.ts';
import { readValueFile } from './context.ts';
import { type EnvironmentName, environmentNames } from './environment-names.ts';
import type { Need, Problems } from './problems.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What was said, and by which variable (`NAME` or `NAME_FILE`). */
export interface Said {
  readonly value: string;
  readonly variable: string;
}

/** The variables that are set. An empty one is not; the content of a `NAME_FILE` stands for `NAME`. */
export class SetVariables {
  readonly #said: ReadonlyMap<string, Said>;

  constructor(said: ReadonlyMap<string, Said>) {
    this.#said = said;
  }

  get(name: string): Said | undefined {
    return this.#said.get(name);
  }

  value(name: string): string | undefined {
    return this.#said.get(name)?.value;
  }

  /** The first of these that is set. */
  first(...names: readonly string[]): Said | undefined {
    return names.map((name) => this.get(name)).find((said) => said !== undefined);
  }
}

/** Reads the known variables of some sections once, their files included. Reports conflicts and unreadable files. */
export async function readVariables(
  env: Environment,
  options: {
    readonly cwd: string;
    readonly problems: Problems;
    readonly sections?: readonly EnvironmentName['section'][];
  },
): Promise<SetVariables> {
  const said = new Map<string, Said>();
  for (const { name, section } of environmentNames) {
    if (options.sections !== undefined && !options.sections.includes(section)) continue;
    const need: Need | undefined = section === 'Database' ? 'database' : section === 'Storage' ? 'storage' : undefined;
    const problem = { where: `${name}_FILE`, ...(need !== undefined && { need }) };
    const value = env[name];
    const file = env[`${name}_FILE`];
    if (value !== undefined && value !== '') said.set(name, { value, variable: name });
    if (file === undefined || file === '') continue;
    if (said.has(name)) {
      options.problems.add({
        ...problem,
        code: 'config-conflict',
        message: `is set beside ${name}`,
        hint: 'keep one of the two',
      });
      continue;
    }
    try {
      const content = await readValueFile(resolve(options.cwd, file));
      if (content !== '') said.set(name, { value: content, variable: `${name}_FILE` });
    } catch (error) {
      options.problems.add({
        ...problem,
        code: 'config-unreadable',
        message: `cannot read ${file}: ${messageOf(error)}`,
      });
    }
  }
  return new SetVariables(said);
}

/** Names that are set, of the sections that a configuration file replaces. The AWS and rclone tools' own are not among them. */
export function ignoredVariables(env: Environment): readonly string[] {
  return environmentNames
    .filter(({ name, section }) => section !== 'Process' && !name.startsWith('AWS_') && name !== 'RCLONE_CONFIG')
    .flatMap(({ name }) => [name, `${name}_FILE`])
    .filter((name) => env[name] !== undefined && env[name] !== '');
}

/** true, 1, yes, on and false, 0, no, off in any case; undefined for anything else. */
export function parseSwitch(text: string): boolean | undefined {
  const word = text.trim().toLowerCase();
  if (['true', '1', 'yes', 'on'].includes(word)) return true;
  return ['false', '0', 'no', 'off'].includes(word) ? false : undefined;
}
