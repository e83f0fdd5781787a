// npm run bench [-- SUITE] [options]: installs what is missing of the servers and of those whom pgark is compared to, as far as
// it can be had, then measures with the Node.js of this checkout (bench/bench.ts).
import { checkoutEnvironment, checkoutNode, root, runInForeground } from './pinned-node.mjs';
import { missingPrograms, runScript, SetupError, setUp } from './setup.mjs';

/** Whom the comparison can do without: a contender that is not to be had is told of in the tables. */
const peers = ['pgbackrest', 'barman'];

await runScript(async () => {
  const args = process.argv.slice(2);
  const isComparison = args[0] === undefined || args[0].startsWith('-');
  setUp({ programs: isComparison ? ['postgres', 'ceph', 'tools'] : ['postgres', 'tools'] });
  const missing = isComparison && !args.includes('--render') ? peers.flatMap(missingAfterSetUp) : [];
  return runInForeground(checkoutNode(), ['bench/bench.ts', ...args], {
    cwd: root,
    env: checkoutEnvironment({ PGARK_BENCH_MISSING: missing.join(',') }),
  });
});

function missingAfterSetUp(group) {
  try {
    setUp({ programs: [group] });
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`not measured: ${error.message}`);
  }
  return missingPrograms([group]);
}
