// Runs a script with the Node.js of this checkout: node scripts/with-node.mjs FILE ARGS…
import { checkoutEnvironment, checkoutNode, runInForeground } from './pinned-node.mjs';

const [file, ...args] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node scripts/with-node.mjs FILE ARGS…');
  process.exitCode = 2;
} else {
  try {
    process.exitCode = await runInForeground(checkoutNode(), [file, ...args], { env: checkoutEnvironment() });
  } catch (error) {
    console.error(`error  ${error.message}`);
    process.exitCode = 1;
  }
}
