// Installs what a checkout needs and does not have: node scripts/setup.mjs [--tests]
// Runs on any Node.js from 20 on, without packages. What is already there is not touched.
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { pinnedNodePath, root } from './pinned-node.mjs';

/** Something that the user has to put right; the message says what and how. */
export class SetupError extends Error {}

const say = (line) => console.log(line);

/** What can be installed with apt: each group is missing as soon as one of its programs is. */
const groups = {
  postgres: {
    what: 'PostgreSQL server and client programs',
    programs: ['initdb', 'postgres', 'pg_ctl', 'pg_dump', 'psql'],
    packages: ['postgresql'],
  },
  ceph: {
    what: 'Ceph RGW, the S3 server of the tests',
    programs: ['radosgw', 'radosgw-admin', 'ceph-mon', 'ceph-osd', 'ceph', 'monmaptool', 'ceph-authtool'],
    packages: ['radosgw', 'ceph-mon', 'ceph-osd'],
  },
  prometheus: {
    what: 'Prometheus, which the tests have scrape pgark, and promtool',
    programs: ['prometheus', 'promtool'],
    packages: ['prometheus'],
  },
  systemd: {
    what: 'systemd, which the tests have look at the units of pgark; it is not started',
    programs: ['systemd-analyze', 'systemd-sysusers'],
    packages: ['systemd'],
  },
  pgbouncer: {
    what: 'PgBouncer, the pooler that the tests let pgark meet',
    programs: ['pgbouncer'],
    packages: ['pgbouncer'],
  },
  pgbackrest: {
    what: 'pgBackRest, which the benchmark compares pgark to',
    programs: ['pgbackrest'],
    packages: ['pgbackrest'],
  },
  barman: {
    what: 'Barman, which the benchmark compares pgark to',
    programs: ['barman', 'rsync', 'barman-cloud-backup', 'barman-cloud-restore'],
    packages: ['barman', 'rsync', 'barman-cli-cloud'],
  },
  tools: {
    what: 'stock tools that the tests check pgark against',
    programs: ['curl', 'age', 'bats', 'openssl', 'gzip', 'pigz', 'rclone', 'zstd', 'time', 'zsh', 'fish'],
    packages: ['curl', 'age', 'bats', 'openssl', 'gzip', 'pigz', 'rclone', 'zstd', 'time', 'zsh', 'fish'],
    packagePerProgram: true,
  },
};

/** Is there an executable of this name on the PATH, or in Debian's folders of PostgreSQL programs? */
function hasProgram(name) {
  const folders = (process.env.PATH ?? '').split(path.delimiter).concat('/usr/local/sbin', '/usr/sbin', '/sbin');
  return [...folders, ...postgresFolders()].some((folder) => folder !== '' && isExecutable(path.join(folder, name)));
}

/** Debian and Ubuntu keep server programs beside the PATH, one folder for each major version. */
function postgresFolders() {
  const base = '/usr/lib/postgresql';
  if (!existsSync(base)) return [];
  return readdirSync(base).map((version) => path.join(base, version, 'bin'));
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Says a command, runs it with this terminal's output, and fails if it does. */
function run(command, args, env = {}) {
  say(`$ ${[command, ...args].join(' ')}`);
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  if (result.error) throw new SetupError(`${command} could not be started: ${result.error.message}`);
  return result.status === 0;
}

/**
 * Do the installed packages (node_modules/.package-lock.json, which npm writes) satisfy package-lock.json? Optional ones may
 * be missing, since they are for other machines; a package too many does no harm.
 */
function packagesMatch(lock, installed) {
  if (installed === undefined) return false;
  return Object.entries(lock.packages ?? {}).every(([location, wanted]) => {
    if (!location.startsWith('node_modules/') || wanted.link) return true;
    const present = installed.packages?.[location];
    if (present === undefined) return wanted.optional === true;
    if (present.version !== wanted.version) return false;
    // The lock file knows no digest of some packages for other machines.
    return !wanted.integrity || !present.integrity || present.integrity === wanted.integrity;
  });
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function nodeIsPinnedHere() {
  return process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64');
}

function ensurePackages() {
  const folder = path.join(root, 'node_modules');
  const lock = readJson(path.join(root, 'package-lock.json'));
  const matches =
    packagesMatch(lock, readJson(path.join(folder, '.package-lock.json'))) &&
    (!nodeIsPinnedHere() || existsSync(pinnedNodePath));
  if (matches) return;
  // npm ci empties the folder before it fills it: through a link that would be somebody else's.
  if (lstatSync(folder, { throwIfNoEntry: false })?.isSymbolicLink()) {
    throw new SetupError(
      `node_modules is a link to ${realpathSync(folder)}, whose packages are not those of package-lock.json: run "npm ci" there, or remove the link`,
    );
  }
  // The pinned Node.js is an optional package, and everything else is needed whatever NODE_ENV says.
  if (!run('npm', ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund'])) {
    throw new SetupError('npm ci failed: its own words are above');
  }
  if (nodeIsPinnedHere() && !existsSync(pinnedNodePath)) {
    throw new SetupError(`npm ci did not install the Node.js of this checkout (${pinnedNodePath})`);
  }
}

/** Node.js 24 and newer are linked to libatomic, which slim images leave out. */
function libatomicIsMissing() {
  if (!existsSync(pinnedNodePath)) return false;
  const result = spawnSync(pinnedNodePath, ['-e', '0'], { encoding: 'utf8' });
  if (result.status === 0) return false;
  if (/libatomic/.test(result.stderr ?? '')) return true;
  throw new SetupError(`${pinnedNodePath} does not start: ${result.stderr || result.error?.message}`);
}

/** The Debian packages for what is missing, and what they are for. */
function missingGroups(names) {
  return names.flatMap((name) => {
    const group = groups[name];
    const missing = group.programs.filter((program) => !hasProgram(program));
    if (missing.length === 0) return [];
    return [{ ...group, missing, packages: group.packagePerProgram ? missing : group.packages }];
  });
}

/** Installing PostgreSQL must not start a server of its own on port 5432; pgark starts private ones. */
function withoutDefaultCluster(install) {
  const file = '/etc/postgresql-common/createcluster.d/pgark-setup.conf';
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, 'create_main_cluster = false\n');
  try {
    return install();
  } finally {
    rmSync(file, { force: true });
  }
}

/** Packages that bring a service of the same name. */
const SERVICES = ['prometheus', 'pgbouncer'];

/** Nor must such a service run now or after the next start; a policy that is there already stays as it is. */
function withoutServices(services, install) {
  const file = '/usr/sbin/policy-rc.d';
  const ours = !existsSync(file);
  if (ours) writeFileSync(file, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return install();
  } finally {
    if (ours) rmSync(file, { force: true });
    const units = services.map((service) => `${service}.service`);
    if (hasProgram('systemctl')) spawnSync('systemctl', ['disable', ...units], { stdio: 'ignore' });
  }
}

function aptInstall(packages) {
  const install = () =>
    run('apt-get', ['install', '-y', '--no-install-recommends', ...packages], {
      DEBIAN_FRONTEND: 'noninteractive',
      LC_ALL: 'C.UTF-8',
    });
  const update = () => run('apt-get', ['update']);
  const lists = '/var/lib/apt/lists';
  const hasLists = existsSync(lists) && readdirSync(lists).some((name) => /_Packages(\.|$)/.test(name));
  if (!hasLists && !update()) throw new SetupError('apt-get update failed: its own words are above');
  const services = SERVICES.filter((service) => packages.includes(service));
  const quietly = () => (services.length > 0 ? withoutServices(services, install) : install());
  const done = () => (packages.includes('postgresql') ? withoutDefaultCluster(quietly) : quietly());
  // The lists may be older than the mirror's present contents: once more with new ones.
  if (done() || (hasLists && update() && done())) return;
  throw new SetupError(`apt-get install failed: its own words are above. Install by hand: ${packages.join(' ')}`);
}

function ensurePrograms(names) {
  const missing = missingGroups(names);
  const packages = [...(libatomicIsMissing() ? ['libatomic1'] : []), ...missing.flatMap((group) => group.packages)];
  if (packages.length === 0) return;
  const wanted = missing.map((group) => `${group.what} (not found: ${group.missing.join(', ')})`);
  if (packages.includes('libatomic1')) wanted.push('libatomic1, which Node.js needs');
  if (!hasProgram('apt-get')) {
    throw new SetupError(
      `missing here: ${wanted.join('; ')}. Install them with this system's package manager; only Debian and Ubuntu are set up automatically`,
    );
  }
  if (process.getuid?.() !== 0) {
    throw new SetupError(
      `missing here: ${wanted.join('; ')}. Installing needs root: run this command as root, or first "sudo apt-get install --no-install-recommends ${packages.join(' ')}"`,
    );
  }
  for (const line of wanted) say(`missing: ${line}`);
  aptInstall(packages);
  const still = missingPrograms(names);
  if (still.length > 0)
    throw new SetupError(`apt-get succeeded, but these programs are still not found: ${still.join(', ')}`);
}

/** What of these groups is not here. */
export function missingPrograms(names) {
  return missingGroups(names).flatMap((group) => group.missing);
}

/**
 * @param {{ programs: readonly ('postgres' | 'ceph' | 'prometheus' | 'systemd' | 'pgbouncer' | 'pgbackrest' | 'barman' | 'tools')[] }} needs
 */
export function setUp({ programs }) {
  ensurePackages();
  ensurePrograms(programs);
}

/** Can apt install what is missing here (or is nothing missing)? Otherwise servers in containers may help out. */
export function canProvide(programs) {
  return missingGroups(programs).length === 0 || hasProgram('apt-get');
}

export { hasProgram };

/** Runs a script's body: a SetupError is one clear line, everything else keeps its stack. */
export async function runScript(body) {
  try {
    process.exitCode = await body();
  } catch (error) {
    console.error(error instanceof SetupError ? `error  ${error.message}` : error);
    process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  await runScript(() => {
    setUp({
      programs: process.argv.includes('--tests')
        ? ['postgres', 'ceph', 'prometheus', 'systemd', 'pgbouncer', 'tools']
        : ['postgres'],
    });
    say('everything is in place');
    return 0;
  });
}
