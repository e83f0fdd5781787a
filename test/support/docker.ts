import { randomBytes } from 'node:crypto';
import { type RunOptions, type RunResult, runProgram } from './cli.ts';
import { expectNoSecrets } from './secrets.ts';

/** How the user reaches Docker, and nothing else of their environment. */
const dockerEnvironment = Object.fromEntries(
  Object.entries(process.env).filter((entry): entry is [string, string] => /^(DOCKER_\w+|HOME)$/.test(entry[0])),
);

/** The image under test, which `npm run test:image` has built. */
export function imageUnderTest(target: 'runtime' | 'drill' = 'runtime'): string {
  const name = target === 'drill' ? 'IMAGE_TEST_DRILL' : 'IMAGE_TEST_RUNTIME';
  const image = process.env[name];
  if (!image) throw new Error(`${name} is not set: run these tests by "npm run test:image", which builds the images`);
  return image;
}

export function docker(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return runProgram('docker', args, { ...options, env: { ...dockerEnvironment, ...options.env } });
}

export interface ContainerOptions {
  readonly image?: string;
  /** The container's variables. They are given to Docker by their names: arguments can be read by everybody. */
  readonly env?: Readonly<Record<string, string>>;
  /** Further options of docker run. */
  readonly options?: readonly string[];
}

/** As one runs it where it matters: nothing can be written but /tmp, and no rights are left. It sees the tests' servers. */
const HARDENED = [
  '--network=host',
  '--read-only',
  '--tmpfs=/tmp:mode=1777',
  '--cap-drop=ALL',
  '--security-opt=no-new-privileges',
];

function runArguments({ image, env = {}, options = [] }: ContainerOptions, command: readonly string[]): string[] {
  const names = Object.keys(env).flatMap((name) => ['--env', name]);
  return [...HARDENED, ...names, ...options, image ?? imageUnderTest(), ...command];
}

/** Runs a command in a container of its own, to its end. */
export async function runContainer(command: readonly string[], options: ContainerOptions = {}): Promise<RunResult> {
  const { env = {} } = options;
  const result = await docker(['run', '--rm', ...runArguments(options, command)], { env });
  expectNoSecrets(result.stdout + result.stderr, `the output of ${command.join(' ')}`, env);
  return result;
}

/** A container that goes on; `await using` removes it. */
export class Container implements AsyncDisposable {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  static async start(command: readonly string[], options: ContainerOptions = {}): Promise<Container> {
    const container = new Container(`pgark-test-${randomBytes(6).toString('hex')}`);
    const args = ['run', '--detach', `--name=${container.name}`, ...runArguments(options, command)];
    const { exitCode, stderr } = await docker(args, { env: options.env ?? {} });
    if (exitCode !== 0) throw new Error(`docker run: ${stderr}`);
    return container;
  }

  exec(command: readonly string[]): Promise<RunResult> {
    return docker(['exec', this.name, ...command]);
  }

  async logs(): Promise<string> {
    const { stdout, stderr } = await docker(['logs', this.name]);
    return stdout + stderr;
  }

  async inspect(format: string): Promise<string> {
    return (await docker(['inspect', '--format', format, this.name])).stdout.trim();
  }

  /** Ends it as Docker does, and tells its exit status. */
  async stop(): Promise<number> {
    await docker(['stop', '--time=60', this.name]);
    return Number(await this.inspect('{{.State.ExitCode}}'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await docker(['rm', '--force', '--volumes', this.name]);
  }
}
