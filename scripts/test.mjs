// npm test [-- unit|integration|FILE…]: installs what is missing, then runs the tests with the Node.js of this checkout.
// PG_TEST_* and S3_TEST_* point the tests at servers of your own; otherwise they start PostgreSQL and Ceph RGW from the
// installed programs, and where those cannot be had, or with TEST_SERVERS=compose, PostgreSQL and MinIO from
// deploy/compose/test.yaml.
import path from 'node:path';
import { startComposeServers } from './compose-servers.mjs';
import { withMemoryDirectory } from './memory-directory.mjs';
import { checkoutEnvironment, checkoutNode, root, runInForeground } from './pinned-node.mjs';
import { canProvide, runScript, setUp } from './setup.mjs';

const projects = ['unit', 'integration'];

/** Projects by name, both by default; everything else goes to vitest as it is. The soak project has a command of its own. */
function vitestArguments(args) {
  const named = args.filter((arg) => projects.includes(arg));
  const chosen = named.length > 0 ? named : projects;
  return [...chosen.flatMap((name) => ['--project', name]), ...args.filter((arg) => !projects.includes(arg))];
}

await runScript(async () => {
  const args = process.argv.slice(2);
  if (args.includes('unit') && !args.includes('integration')) {
    setUp({ programs: ['tools'] });
    return runTests(args);
  }
  const needsCeph = !process.env.S3_TEST_ENDPOINT;
  const servers = needsCeph ? ['postgres', 'ceph'] : ['postgres'];
  const others = ['prometheus', 'systemd', 'pgbouncer', 'tools'];
  const wantsCompose = process.env.TEST_SERVERS === 'compose';
  if (!wantsCompose && canProvide(servers)) {
    setUp({ programs: [...servers, ...others] });
    return runTests(args);
  }
  // Some tests start servers of their own all the same, where there are the programs.
  setUp({ programs: wantsCompose && canProvide(['postgres']) ? ['postgres', ...others] : [] });
  const compose = startComposeServers();
  try {
    return await runTests(args, withoutOwnServers(compose.env));
  } finally {
    compose.stop();
  }
});

/** A server that the user has named is not replaced by one of ours, nor are their settings mixed. */
function withoutOwnServers(env) {
  const entries = Object.entries(env).filter(
    ([name]) => !process.env[name.startsWith('PG_') ? 'PG_TEST_HOST' : 'S3_TEST_ENDPOINT'],
  );
  return Object.fromEntries(entries);
}

function runTests(args, env = {}) {
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  return withMemoryDirectory((temporary) =>
    runInForeground(checkoutNode(), [vitest, 'run', ...vitestArguments(args)], {
      cwd: root,
      env: checkoutEnvironment({ ...temporary, ...env }),
    }),
  );
}
