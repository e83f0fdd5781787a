import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type ByteStream, MIB } from '../../src/common/bytes.ts';
import {
  digestOf,
  distinctBytes,
  listKeys,
  readAll,
  readObject,
  streamOf,
  streamThen,
  textBytes,
  uploadsOf,
} from '../../src/storage/contract/harness.contract.ts';
import { openRcloneStore, setRcloneStage, withScriptedRclone } from '../support/rclone.ts';

/** More than rclone keeps before it begins an upload, and more than one of its parts. */
const large = distinctBytes(40 * MIB + 12_345);

describe('a put through rclone', () => {
  test('is confirmed by the remote’s own hash where it has one, else by the length', async () => {
    await using stage = await setRcloneStage();
    const { configFile } = stage.place;
    const disk = openRcloneStore({ remote: 'disk:', configFile });
    const ceph = openRcloneStore({ remote: `ceph:${stage.bucket.name}`, configFile });
    expect(await disk.putStream('large', streamOf(large))).toMatchObject({
      confirmedBy: 'sha256',
      bytes: large.length,
    });
    expect(await ceph.putStream('small', streamOf(large.subarray(0, MIB)))).toMatchObject({ confirmedBy: 'md5' });
    // In several parts: S3 keeps no hash of the whole.
    expect(await ceph.putStream('large', streamOf(large))).toMatchObject({
      confirmedBy: 'length',
      bytes: large.length,
    });
    expect(digestOf(await stage.bucket.get('large'))).toBe(digestOf(large));
  });

  test('whose rclone is killed in its middle says so and leaves nothing', async () => {
    await using stage = await setRcloneStage();
    const env = await withScriptedRclone(
      path.join(stage.place.path, 'bin'),
      'echo $$ > "$folder/pid-$1"; exec $rclone "$@"',
    );
    const kill = async (): Promise<void> => {
      process.kill(Number(await readFile(path.join(stage.place.path, 'bin', 'pid-rcat'), 'utf8')), 'SIGKILL');
    };
    const killing = async function* (): ByteStream {
      yield* streamOf(large);
      await kill();
      yield* streamOf(large);
    };
    for (const { remote, files } of stage.remotes) {
      const store = openRcloneStore({ remote, configFile: stage.place.configFile, env });
      await expect(store.putStream('folder/object', killing())).rejects.toMatchObject({
        code: 'store-failed',
        message: expect.stringContaining('rclone was killed by SIGKILL'),
      });
      expect(await files()).toEqual([]);
      expect(await uploadsOf(store, '')).toEqual([]);
    }
  });

  test('whose body throws in its middle leaves nothing, not even parts of an upload', async () => {
    await using stage = await setRcloneStage();
    const error = new Error('pg_dump was killed');
    for (const { remote, files } of stage.remotes) {
      const store = openRcloneStore({ remote, configFile: stage.place.configFile });
      let open = -1;
      const broken = streamThen(large, async () => {
        open = (await stage.bucket.listOpenUploads()).length;
        throw error;
      });
      await expect(store.putStream('folder/object', broken)).rejects.toBe(error);
      expect({ remote, open }).toEqual({ remote, open: remote === 'disk:' ? 0 : 1 });
      expect(await files()).toEqual([]);
      expect(await stage.bucket.listOpenUploads()).toEqual([]);
    }
  });

  test('of which the remote keeps a part only is no success, and is taken back', async () => {
    await using stage = await setRcloneStage();
    const script =
      'case "$1" in rcat) { head -c 100000; cat > /dev/null; :; } | $rclone "$@" ;; *) exec $rclone "$@" ;; esac';
    const env = await withScriptedRclone(path.join(stage.place.path, 'bin'), script);
    for (const { remote, files } of stage.remotes) {
      const store = openRcloneStore({ remote, configFile: stage.place.configFile, env });
      await expect(store.putStream('object', streamOf(distinctBytes(MIB)))).rejects.toMatchObject({
        code: 'store-integrity',
        message: expect.stringContaining('it has 100000 bytes, and 1048576 were sent'),
      });
      expect(await files()).toEqual([]);
    }
  });

  test('of other bytes than were sent is found out by the hash, and taken back', async () => {
    await using stage = await setRcloneStage();
    const env = await withScriptedRclone(
      path.join(stage.place.path, 'bin'),
      `case "$1" in rcat) tr '\\000' '\\001' | $rclone "$@" ;; *) exec $rclone "$@" ;; esac`,
    );
    for (const { remote, files } of stage.remotes) {
      const store = openRcloneStore({ remote, configFile: stage.place.configFile, env });
      await expect(store.putStream('object', streamOf(new Uint8Array(1_000)))).rejects.toMatchObject({
        code: 'store-integrity',
        message: expect.stringMatching(/its (sha256|md5) is not that of what was sent/u),
      });
      expect(await files()).toEqual([]);
      await expect(store.putSmall('state', new Uint8Array(1_000))).rejects.toMatchObject({ code: 'store-integrity' });
    }
  });

  test('whose rename succeeds without an answer is a success', async () => {
    await using stage = await setRcloneStage();
    const env = await withScriptedRclone(
      path.join(stage.place.path, 'bin'),
      '$rclone "$@"; status=$?; case "$1" in moveto) echo "connection reset by peer" >&2; exit 1 ;; *) exit $status ;; esac',
    );
    const store = openRcloneStore({ remote: 'disk:', configFile: stage.place.configFile, env });
    expect(await store.putStream('a/object', streamOf(large))).toMatchObject({ bytes: large.length });
    expect(digestOf(await readObject(store, 'a/object'))).toBe(digestOf(large));
    await store.putSmall('a/state', textBytes('first'));
    await store.putSmall('a/state', textBytes('again'));
    expect(await listKeys(store, '')).toEqual(['a/object', 'a/state']);
  });

  test('of a small object that has the same length and time as before replaces it all the same', async () => {
    await using stage = await setRcloneStage();
    const env = await withScriptedRclone(
      path.join(stage.place.path, 'bin'),
      // What is written seems to be as old as what was there.
      '$rclone "$@"; status=$?; case "$1" in rcat) find "$folder/../disk" -type f -exec touch -d 2026-11-20T02:00:00 {} + ;; esac; exit $status',
    );
    const store = openRcloneStore({ remote: 'disk:', configFile: stage.place.configFile, env });
    await store.putSmall('state', textBytes('one'));
    await store.putSmall('state', textBytes('two'));
    expect(Buffer.from(await readObject(store, 'state')).toString()).toBe('two');
  });

  test('goes through an encrypted remote, which knows no hashes and keeps short names only', async () => {
    await using stage = await setRcloneStage();
    const password = 'eXNPPm3vJUvxlJq3xRGNm1Bm3n4'; // as rclone obscures them
    const env = {
      ...process.env,
      RCLONE_CONFIG_SAFE_TYPE: 'crypt',
      RCLONE_CONFIG_SAFE_REMOTE: 'disk:encrypted',
      RCLONE_CONFIG_SAFE_PASSWORD: password,
    };
    const store = openRcloneStore({ remote: 'safe:pg', configFile: stage.place.configFile, env });
    await store.probe({ write: true, delete: true });
    const key = `${'folder/'.repeat(30)}${'n'.repeat(140)}`;
    expect(await store.putStream(key, streamOf(large))).toMatchObject({ confirmedBy: 'length' });
    expect(digestOf(await readObject(store, key))).toBe(digestOf(large));
    expect(await listKeys(store, '')).toEqual([key]);
    expect(await uploadsOf(store, '')).toEqual([]);
  });
});

describe('a read through rclone', () => {
  test('that is cut off goes on where it was', async () => {
    await using stage = await setRcloneStage();
    const script = `
      if [ "$1" = cat ] && [ "$(ls "$folder" | grep -c '^cut')" -lt 2 ]; then
        : > "$folder/cut-$$"; $rclone "$@" | head -c 3000000; echo 'read tcp 10.0.0.1:443: connection reset by peer' >&2; exit 1
      fi
      exec $rclone "$@"`;
    const env = await withScriptedRclone(path.join(stage.place.path, 'bin'), script);
    const store = openRcloneStore({ remote: 'disk:', configFile: stage.place.configFile, env });
    await store.putStream('object', streamOf(large));
    expect(digestOf(await readObject(store, 'object'))).toBe(digestOf(large));
  });

  test('of other bytes than the remote has the hash of does not end well', async () => {
    await using stage = await setRcloneStage();
    const script = `if [ "$1" = cat ]; then $rclone "$@" | tr a b; else exec $rclone "$@"; fi`;
    const env = await withScriptedRclone(path.join(stage.place.path, 'bin'), script);
    const store = openRcloneStore({ remote: `ceph:${stage.bucket.name}`, configFile: stage.place.configFile, env });
    await store.putSmall('state', textBytes('aaa'));
    await expect(readObject(store, 'state')).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('of fewer bytes than there should be does not end well', async () => {
    await using stage = await setRcloneStage();
    const script = `if [ "$1" = cat ]; then $rclone "$@" | head -c 10; else exec $rclone "$@"; fi`;
    const env = await withScriptedRclone(path.join(stage.place.path, 'bin'), script);
    const store = openRcloneStore({ remote: 'disk:', configFile: stage.place.configFile, env });
    await store.putSmall('state', distinctBytes(1_000));
    await expect(readObject(store, 'state')).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('of an object that is replaced before its bytes are asked for is refused', async () => {
    await using stage = await setRcloneStage();
    for (const { remote } of stage.remotes) {
      const store = openRcloneStore({ remote, configFile: stage.place.configFile });
      await store.putSmall('state', textBytes('before'));
      const { body } = await store.get('state');
      await store.putSmall('state', textBytes('after.'));
      await expect(readAll(body)).rejects.toMatchObject({ code: 'store-condition-failed' });
    }
  });
});

describe('a list through rclone', () => {
  test('finds what lies in a folder beside an object of the same name', async () => {
    await using stage = await setRcloneStage();
    const store = openRcloneStore({ remote: `ceph:${stage.bucket.name}`, configFile: stage.place.configFile });
    const names = ['a*[b]{c}', 'a*[b]{c}/x/1', 'a*[b]{c}/x/2', 'aX[b]{c}/3', 'b/c', 'b/c/c'];
    for (const name of names) await stage.bucket.put(name, 'x');
    expect(await listKeys(store, 'a*[b]{c}/')).toEqual(['a*[b]{c}/x/1', 'a*[b]{c}/x/2']);
    expect(await listKeys(store, 'b/c/')).toEqual(['b/c/c']);
    expect(await listKeys(store, 'b/c/c/')).toEqual([]);
    expect(await listKeys(store, '')).toEqual(names);
  });

  test('is tried again after trouble with the network', async () => {
    await using stage = await setRcloneStage();
    const script = `if [ "$1" = lsjson ] && [ ! -e "$folder/once" ]; then : > "$folder/once"; echo 'dial tcp: i/o timeout' >&2; exit 1; fi; exec $rclone "$@"`;
    const env = await withScriptedRclone(path.join(stage.place.path, 'bin'), script);
    const store = openRcloneStore({ remote: 'disk:', configFile: stage.place.configFile, env });
    await writeFile(path.join(stage.place.root, 'a'), 'x');
    expect(await listKeys(store, '')).toEqual(['a']);
  });

  test('is not shortened by filters that the environment sets', async () => {
    await using stage = await setRcloneStage();
    const env = {
      ...process.env,
      RCLONE_EXCLUDE: '*',
      RCLONE_MAX_AGE: '1s',
      RCLONE_DRY_RUN: 'true',
      RCLONE_FILTER: '- *',
    };
    const store = openRcloneStore({ remote: 'disk:', configFile: stage.place.configFile, env });
    await store.putSmall('a', textBytes('x'));
    expect(await listKeys(store, '')).toEqual(['a']);
  });
});

test('a condition is honoured by a look before the write', async () => {
  await using stage = await setRcloneStage();
  for (const { remote } of stage.remotes) {
    const store = openRcloneStore({ remote, configFile: stage.place.configFile });
    const failed = { code: 'store-condition-failed' };
    const first = await store.putSmall('lease', textBytes('one'), { condition: { ifAbsent: true } });
    await expect(store.putSmall('lease', textBytes('two'), { condition: { ifAbsent: true } })).rejects.toMatchObject(
      failed,
    );
    const second = await store.putSmall('lease', textBytes('two'), { condition: { ifMatch: first.etag } });
    await expect(
      store.putSmall('lease', textBytes('six'), { condition: { ifMatch: first.etag } }),
    ).rejects.toMatchObject(failed);
    expect(second.etag).not.toBe(first.etag);
    expect(Buffer.from(await readObject(store, 'lease')).toString()).toBe('two');
  }
});

test('the time is the server’s where it shows, and this machine’s elsewhere', async () => {
  await using stage = await setRcloneStage();
  const clock = { now: () => new Date('2020-01-01T00:00:00Z'), monotonicMs: () => 0, sleep: () => Promise.resolve() };
  const { configFile } = stage.place;
  const ceph = openRcloneStore({ remote: `ceph:${stage.bucket.name}`, configFile, clock });
  expect(Math.abs((await ceph.now()).getTime() - Date.now())).toBeLessThan(60_000);
  const disk = openRcloneStore({ remote: 'disk:', configFile, clock });
  expect(await disk.now()).toEqual(clock.now());
  expect(await disk.now()).toEqual(clock.now());
  expect(await stage.bucket.listKeys()).toEqual([]);
});
