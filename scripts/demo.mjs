// npm run demo: installs what is missing, then runs pgark's own demonstration.
import path from 'node:path';
import { root, runInForeground } from './pinned-node.mjs';
import { runScript, setUp } from './setup.mjs';

await runScript(() => {
  setUp({ programs: ['postgres'] });
  return runInForeground(path.join(root, 'bin', 'pgark'), ['demo', ...process.argv.slice(2)]);
});
