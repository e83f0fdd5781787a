import { type RunOptions, type RunResult, runProgram } from './cli.ts';

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
