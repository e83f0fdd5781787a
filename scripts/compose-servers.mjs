import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { root } from './pinned-node.mjs';
import { hasProgram, SetupError } from './setup.mjs';

const composeFile = path.join(root, 'deploy', 'compose', 'test.yaml');

/**
 * Starts the servers of deploy/compose/test.yaml under a project name of their own and with passwords made here.
 * Resolves to the variables that point the tests at them, and a stop that removes containers and volumes.
 */
export function startComposeServers() {
  if (!hasProgram('docker') || spawnSync('docker', ['compose', 'version']).status !== 0) {
    throw new SetupError(
      'the tests need PostgreSQL and an S3 server, and there is neither apt-get nor "docker compose" here: install Docker, or point PG_TEST_HOST, PG_TEST_PORT, PG_TEST_USER, PG_TEST_PASSWORD and S3_TEST_ENDPOINT, S3_TEST_ACCESS_KEY, S3_TEST_SECRET_KEY at servers of your own',
    );
  }
  const project = `pgark-test-${randomBytes(4).toString('hex')}`;
  const secret = () => randomBytes(18).toString('hex');
  const secrets = {
    PG_PASSWORD: secret(),
    S3_SECRET_KEY: secret(),
    S3_READ_ONLY_SECRET_KEY: secret(),
    S3_NO_RIGHTS_SECRET_KEY: secret(),
  };
  const compose = (args, options = {}) => {
    console.log(`$ docker compose -f ${path.relative(process.cwd(), composeFile)} ${args.join(' ')}`);
    return spawnSync('docker', ['compose', '-p', project, '-f', composeFile, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', options.capture ? 'pipe' : 'inherit', 'inherit'],
      env: { ...process.env, ...secrets },
    });
  };
  const stop = () => compose(['down', '--volumes', '--timeout', '5']);
  const port = (service, inside) => {
    const result = compose(['port', service, String(inside)], { capture: true });
    const found = /:(\d+)\s*$/.exec(result.stdout ?? '');
    if (found === null) throw new SetupError(`docker compose does not say the port of ${service}`);
    return found[1];
  };
  try {
    if (compose(['up', '--detach', '--wait', '--quiet-pull']).status !== 0) {
      throw new SetupError('docker compose up failed: its own words are above');
    }
    if (compose(['exec', '-T', 'minio', 'sh', '/pgark/create-users.sh']).status !== 0) {
      throw new SetupError('the users of the S3 server could not be created: its own words are above');
    }
    return {
      stop,
      env: {
        PG_TEST_HOST: '127.0.0.1',
        PG_TEST_PORT: port('postgres', 5432),
        PG_TEST_USER: 'postgres',
        PG_TEST_PASSWORD: secrets.PG_PASSWORD,
        S3_TEST_ENDPOINT: `http://127.0.0.1:${port('minio', 9000)}`,
        S3_TEST_REGION: 'us-east-1',
        S3_TEST_ACCESS_KEY: 'pgark-test',
        S3_TEST_SECRET_KEY: secrets.S3_SECRET_KEY,
        S3_TEST_READ_ONLY_ACCESS_KEY: 'pgark-read-only',
        S3_TEST_READ_ONLY_SECRET_KEY: secrets.S3_READ_ONLY_SECRET_KEY,
        S3_TEST_NO_RIGHTS_ACCESS_KEY: 'pgark-no-rights',
        S3_TEST_NO_RIGHTS_SECRET_KEY: secrets.S3_NO_RIGHTS_SECRET_KEY,
      },
    };
  } catch (error) {
    stop();
    throw error;
  }
}
