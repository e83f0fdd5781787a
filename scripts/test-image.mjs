// npm run test:image [-- FILE…]: builds the image and the one with server programs, then tries them in containers, with
// real servers beside them; also the files for Compose and Helm. Needs Docker with Compose, helm, and the base image.
// IMAGE_TEST_BUILD holds further options for docker build, such as: --build-arg BASE_IMAGE=… --network host
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { checkoutEnvironment, checkoutNode, root, runInForeground } from './pinned-node.mjs';
import { hasProgram, runScript, SetupError, setUp } from './setup.mjs';

const images = { runtime: 'pgark-test', drill: 'pgark-test:drill' };

function build(target) {
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const options = (process.env.IMAGE_TEST_BUILD ?? '').split(' ').filter((option) => option !== '');
  const args = ['build', '--file', 'deploy/docker/Dockerfile', '--target', target, '--tag', images[target]];
  args.push('--build-arg', `VERSION=${version}`, ...options, '.');
  console.log(`$ docker ${args.join(' ')}`);
  const env = { ...process.env, DOCKER_BUILDKIT: '1' };
  if (spawnSync('docker', args, { cwd: root, stdio: 'inherit', env }).status !== 0) {
    throw new SetupError('docker build failed: its own words are above');
  }
}

await runScript(() => {
  for (const program of ['docker', 'helm']) {
    if (!hasProgram(program)) throw new SetupError(`${program} is not installed, and these tests need it`);
  }
  setUp({ programs: ['postgres', 'ceph'] });
  for (const target of Object.keys(images)) build(target);
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  return runInForeground(checkoutNode(), [vitest, 'run', '--project', 'image', ...process.argv.slice(2)], {
    cwd: root,
    env: checkoutEnvironment({ IMAGE_TEST_RUNTIME: images.runtime, IMAGE_TEST_DRILL: images.drill }),
  });
});
