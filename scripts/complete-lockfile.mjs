// Adds to package-lock.json the optional packages for other machines that npm left out of it: node scripts/complete-lockfile.mjs
// npm drops an optional package from the lock file when the registry in use does not offer it, and then "npm ci" fails
// everywhere. Run it after "npm install"; with --check it only tells what is missing.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './pinned-node.mjs';

const operatingSystems = [
  'aix',
  'android',
  'darwin',
  'freebsd',
  'linux',
  'netbsd',
  'openbsd',
  'openharmony',
  'sunos',
  'win32',
];
const processors = ['arm', 'arm64', 'ia32', 'loong64', 'mips64el', 'ppc64', 'riscv64', 's390x', 'x64'];

/** What `@oxlint/binding-linux-x64-musl` says of the machine that it is for, in the words of package.json. */
function machineOf(name) {
  const words = name.split(/[/-]/);
  const os = operatingSystems.find((word) => words.includes(word));
  const cpu = processors.find((word) => words.includes(word));
  if (os === undefined || cpu === undefined) throw new Error(`${name} does not say which machine it is for`);
  const libc = words.some((word) => word.startsWith('musl'))
    ? 'musl'
    : words.some((word) => word.startsWith('gnu'))
      ? 'glibc'
      : undefined;
  return { os: [os], cpu: [cpu], ...(libc && { libc: [libc] }) };
}

/** The entries that are missing from a lock file, by their place in it. */
function missingEntries(lock) {
  const missing = {};
  for (const parent of Object.values(lock.packages)) {
    for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
      const location = `node_modules/${name}`;
      // An exact version is all that can be known without the registry.
      if (lock.packages[location] !== undefined || !/^\d+\.\d+\.\d+/.test(version)) continue;
      missing[location] = { version, ...machineOf(name), ...(parent.dev && { dev: true }), optional: true };
    }
  }
  return missing;
}

const file = path.join(root, 'package-lock.json');
const lock = JSON.parse(readFileSync(file, 'utf8'));
const missing = missingEntries(lock);
const names = Object.keys(missing).sort();
for (const name of names) console.log(`missing in package-lock.json: ${name}`);
if (names.length === 0) console.log('package-lock.json is complete');
else if (process.argv.includes('--check')) process.exitCode = 1;
else {
  const [[top, project], ...others] = Object.entries(lock.packages);
  const packages = [...others, ...Object.entries(missing)].sort(([a], [b]) => (a < b ? -1 : 1));
  writeFileSync(
    file,
    `${JSON.stringify({ ...lock, packages: { [top]: project, ...Object.fromEntries(packages) } }, undefined, 2)}\n`,
  );
  console.log(`${names.length} added`);
}
