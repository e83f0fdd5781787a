// npm run test:soak [-- FILE…]: tests that take long, or need more than this machine has by itself. PG_MATRIX_DIRS names
// folders of PostgreSQL programs, as a PATH does, for each version that is to be tried; see docs/compatibility.md.
import path from 'node:path';
import { checkoutEnvironment, checkoutNode, root, runInForeground } from './pinned-node.mjs';
import { runScript, SetupError, setUp } from './setup.mjs';

await runScript(() => {
  if (!process.env.PG_MATRIX_DIRS) {
    throw new SetupError(
      'PG_MATRIX_DIRS is not set: name the folders of the PostgreSQL versions to try, such as /usr/lib/postgresql/15/bin:/usr/lib/postgresql/18/bin',
    );
  }
  setUp({ programs: [] });
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  return runInForeground(checkoutNode(), [vitest, 'run', '--project', 'soak', ...process.argv.slice(2)], {
    cwd: root,
    env: checkoutEnvironment({}),
  });
});
