// npm run test:soak [-- FILE…]: tests that take long, or need more than this machine has by itself. Some of them need
// PG_MATRIX_DIRS: folders of PostgreSQL programs, as a PATH does, for each version to try; see docs/compatibility.md.
import path from 'node:path';
import { checkoutEnvironment, checkoutNode, root, runInForeground } from './pinned-node.mjs';
import { runScript, setUp } from './setup.mjs';

await runScript(() => {
  setUp({ programs: ['postgres', 'ceph', 'tools'] });
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  return runInForeground(checkoutNode(), [vitest, 'run', '--project', 'soak', ...process.argv.slice(2)], {
    cwd: root,
    env: checkoutEnvironment({}),
  });
});
