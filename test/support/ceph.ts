import { execFile } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../src/postgres/server/free-port.ts';
import { type Reaper, startReaper } from '../../src/postgres/server/reaper.ts';
import { answers } from './answers.ts';
import type { Certificate } from './certificate.ts';
import type { S3Login } from './facts.ts';

const ATTEMPTS_MAX = 3;
const STORE_BYTES_MAX = 8 * 2 ** 30;
const run = promisify(execFile);

export interface CephServer extends S3Login {
  readonly endpoint: string;
  readonly cephConf: string;
  /** Of what answers requests, and of what keeps the objects. */
  readonly pids: () => Promise<readonly number[]>;
  stop(): Promise<void>;
}

export interface CephOptions {
  /** With it the endpoint is https://localhost:PORT. */
  readonly certificate?: Certificate;
}

/**
 * Starts a Ceph of one monitor, one object store daemon that keeps everything in memory, and the S3 gateway; all state
 * is in one temporary directory. It takes about two seconds and does not outlive this process.
 */
export async function startCeph({ certificate }: CephOptions = {}): Promise<CephServer> {
  for (let attempt = 1; ; attempt += 1) {
    const ceph = new SingleNodeCeph(await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-ceph-'))), certificate);
    try {
      await ceph.start();
      return ceph;
    } catch (error) {
      const log = await ceph.logTails();
      await ceph.stop();
      // Ports are free when they are chosen and may be taken when they are used.
      if (attempt === ATTEMPTS_MAX)
        throw new Error(`Ceph, the S3 server of the tests, does not start:\n${log}`, { cause: error });
    }
  }
}

class SingleNodeCeph implements CephServer {
  endpoint = '';
  readonly accessKey = `test${randomBytes(8).toString('hex')}`;
  readonly secretKey = randomBytes(20).toString('hex');
  readonly cephConf: string;
  readonly #directory: string;
  readonly #certificate: Certificate | undefined;
  #reaper: Reaper | undefined;

  constructor(directory: string, certificate: Certificate | undefined) {
    this.#directory = directory;
    this.#certificate = certificate;
    this.cephConf = this.#path('ceph.conf');
  }

  async start(): Promise<void> {
    this.#reaper = await startReaper({ directory: this.#directory, pidFiles: this.#pidFiles, signal: 'KILL' });
    for (const folder of ['mon', 'osd', 'run', 'log', 'crash']) await mkdir(this.#path(folder));
    const [monitorPort, gatewayPort] = [await freePort(), await freePort()];
    const clusterId = randomUUID();
    await writeFile(this.#path('keyring'), keyring(), { mode: 0o600 });
    if (this.#certificate !== undefined) {
      const { cert, key } = this.#certificate;
      await writeFile(this.#path('certificate.pem'), `${cert}${key}`, { mode: 0o600 });
    }
    await writeFile(this.cephConf, this.#configuration(clusterId, monitorPort, gatewayPort));
    const address = `[v2:127.0.0.1:${monitorPort}]`;
    await this.#run('monmaptool', ['--create', '--fsid', clusterId, '--addv', 'a', address, this.#path('monmap')]);
    await this.#run('ceph-mon', [
      '--mkfs',
      '-i',
      'a',
      '--monmap',
      this.#path('monmap'),
      '--keyring',
      this.#path('keyring'),
    ]);
    // The daemons go into the background by themselves once they run.
    await this.#run('ceph-mon', ['-i', 'a']);
    const storeId = randomUUID();
    await this.#run('ceph', ['--connect-timeout', '120', 'osd', 'new', storeId]);
    await this.#run('ceph-osd', ['-i', '0', '--mkfs', '--osd-uuid', storeId]);
    await this.#run('ceph-osd', ['-i', '0']);
    await this.#run('radosgw', ['-n', 'client.rgw']);
    this.endpoint = this.#certificate ? `https://localhost:${gatewayPort}` : `http://127.0.0.1:${gatewayPort}`;
    await answers(gatewayPort);
    await createCephUser(this.cephConf, { uid: 'test', accessKey: this.accessKey, secretKey: this.secretKey });
  }

  async stop(): Promise<void> {
    // What is in memory only needs no good-bye.
    for (const file of this.#pidFiles) {
      const pid = Number.parseInt(await readFile(file, 'utf8').catch(() => ''), 10);
      if (!(pid > 0)) continue;
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended already.
      }
    }
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    await this.#reaper?.dismiss();
  }

  async pids(): Promise<readonly number[]> {
    const texts = await Promise.all(this.#pidFiles.slice(0, 2).map((file) => readFile(file, 'utf8')));
    return texts.map((text) => Number.parseInt(text, 10));
  }

  async logTails(): Promise<string> {
    const tails = await Promise.all(
      ['mon.a', 'osd.0', 'client.rgw'].map(async (name) => {
        const log = await readFile(this.#path('log', `${name}.log`), 'utf8').catch(() => '(no log)');
        return `--- ${name}\n${log.slice(-1_500).trim()}`;
      }),
    );
    return tails.join('\n');
  }

  get #pidFiles(): string[] {
    return ['client.rgw', 'osd.0', 'mon.a'].map((name) => this.#path('run', `${name}.pid`));
  }

  #path(...parts: string[]): string {
    return path.join(this.#directory, ...parts);
  }

  async #run(program: string, args: readonly string[]): Promise<void> {
    await run(program, args, { cwd: this.#directory, env: { ...process.env, CEPH_CONF: this.cephConf } });
  }

  #configuration(clusterId: string, monitorPort: number, gatewayPort: number): string {
    const d = this.#directory;
    return `[global]
fsid = ${clusterId}
mon_host = v2:127.0.0.1:${monitorPort}
mon_initial_members = a
keyring = ${d}/keyring
public_network = 127.0.0.0/8
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_mon_cluster_mode = crc
auth_allow_insecure_global_id_reclaim = false
chdir = ${d}
run_dir = ${d}/run
pid_file = ${d}/run/$type.$id.pid
admin_socket = ${d}/run/$type.$id.asok
log_file = ${d}/log/$type.$id.log
crash_dir = ${d}/crash
mon_data = ${d}/mon
mon_data_avail_crit = 1
osd_data = ${d}/osd
# One copy of everything, in memory.
osd_objectstore = memstore
memstore_device_bytes = ${STORE_BYTES_MAX}
memstore_page_set = true
osd_class_load_list = *
osd_class_default_list = *
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
mon_warn_on_pool_no_redundancy = false
# Agree with nobody, and so at once.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
rgw_frontends = beast ${this.#certificate ? `ssl_endpoint=127.0.0.1:${gatewayPort} ssl_certificate=${d}/certificate.pem` : `endpoint=127.0.0.1:${gatewayPort}`}
rgw_thread_pool_size = 64
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
# Memory of deleted objects comes back soon.
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 10
`;
  }
}

export interface CephUser extends S3Login {
  readonly uid: string;
}

/** `buckets: false` makes a user that may not create any. */
export async function createCephUser(
  cephConf: string,
  user: CephUser,
  options: { buckets?: boolean } = {},
): Promise<void> {
  const command = ['-c', cephConf, 'user', 'create', `--uid=${user.uid}`, `--display-name=${user.uid}`];
  const login = [`--access-key=${user.accessKey}`, `--secret-key=${user.secretKey}`];
  await run('radosgw-admin', [...command, ...login, ...(options.buckets === false ? ['--max-buckets=-1'] : [])]);
}

/** The daemons' keys, in the format of ceph-authtool. */
function keyring(): string {
  const section = (name: string, caps: Record<string, string>) =>
    `[${name}]\n\tkey = ${cephKey()}\n${Object.entries(caps)
      .map(([daemon, cap]) => `\tcaps ${daemon} = "${cap}"\n`)
      .join('')}`;
  return [
    section('mon.', { mon: 'allow *' }),
    section('client.admin', { mon: 'allow *', osd: 'allow *', mgr: 'allow *' }),
    section('osd.0', { mon: 'allow profile osd', osd: 'allow *' }),
    section('client.rgw', { mon: 'allow rwx', osd: 'allow rwx' }),
  ].join('');
}

/** Ceph's CryptoKey, little-endian: u16 type (1 is AES), u32 seconds and u32 nanoseconds of creation, u16 length, the key. */
function cephKey(): string {
  const header = Buffer.alloc(12);
  header.writeUInt16LE(1, 0);
  header.writeUInt32LE(Math.floor(Date.now() / 1000), 2);
  header.writeUInt16LE(16, 10);
  return Buffer.concat([header, randomBytes(16)]).toString('base64');
}
