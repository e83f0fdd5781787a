// Prints "N passed, N failed" from the JSON report of a test run: node scripts/summarize-tests.mjs FILE
// Fails if a test failed, if a file could not be run, if tests were skipped, or if there were none.
import { readFileSync } from 'node:fs';
import path from 'node:path';

const [file = ''] = process.argv.slice(2);

function summarize() {
  let report;
  try {
    report = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    console.log(`0 passed, 0 failed: the test run left no report (${error.message})`);
    return 1;
  }
  // A file that cannot be loaded has no test that could fail: it counts as one.
  const brokenFiles = report.testResults.filter(
    (result) => result.status === 'failed' && result.assertionResults.length === 0,
  );
  const failed = report.numFailedTests + brokenFiles.length;
  const skipped = report.numPendingTests + report.numTodoTests;
  for (const name of namesOfSkipped(report)) console.log(`skipped, which counts as a failure: ${name}`);
  console.log(`${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  return report.success && failed === 0 && skipped === 0 && report.numPassedTests > 0 ? 0 : 1;
}

function namesOfSkipped(report) {
  return report.testResults.flatMap((result) =>
    result.assertionResults
      .filter(({ status }) => !['passed', 'failed'].includes(status))
      .map(({ fullName }) => `${path.relative(process.cwd(), result.name)}: ${fullName}`),
  );
}

process.exitCode = summarize();
