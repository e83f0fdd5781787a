import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withLargeWrites } from './large-writes.ts';
import { ProgramFailure, type ProgramSpec, programText } from '../../common/child-process.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgark-writes-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** A script of a person's own under the name of a program. */
async function script(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

async function specOf(path: string, args: readonly string[] = []): Promise<ProgramSpec> {
  return { name: 'program', path, args, env: { PATH: `${folder}:/usr/bin:/bin` } };
}

describe('a program with large writes', () => {
  test('is run by stdbuf with its arguments as they are', async () => {
    const path = await script('program', '[ "$1" = --version ] && exec echo 1; printf "%s\\n" "$@" "$_STDBUF_O"');
    const spec = await withLargeWrites(await specOf(path, ['a b', '--output=c', '"']));
    expect(spec.path).toBe('/usr/bin/stdbuf');
    expect(await programText(spec)).toBe('a b\n--output=c\n"\n65536\n');
  });

  test('keeps its exit status and its signals', async () => {
    const path = await script(
      'program',
      '[ "$1" = --version ] && exec echo 1; [ "$1" = kill ] && kill -KILL $$; exit 7',
    );
    const failures = await Promise.all(
      ['exit', 'kill'].map(async (how) => {
        const spec = await withLargeWrites(await specOf(path, [how]));
        return programText(spec).catch((error: unknown) => error);
      }),
    );
    expect(failures.every((failure) => failure instanceof ProgramFailure)).toBe(true);
    expect(failures).toMatchObject([{ exitCode: 7 }, { signalName: 'SIGKILL' }]);
  });

  test.each([
    ['is missing', undefined],
    ['fails', 'echo "stdbuf: failed to find libstdbuf.so" >&2; exit 125'],
    ['is not taken by the loader', 'shift; echo "ERROR: ld.so: object cannot be preloaded" >&2; exec "$@"'],
    ['says nothing', 'exit 0'],
  ])('is run as it is where stdbuf %s', async (_, stdbuf) => {
    const path = await script('program', 'echo "$@"');
    if (stdbuf !== undefined) await script('stdbuf', stdbuf);
    const plain = {
      ...(await specOf(path, ['hello'])),
      env: { PATH: stdbuf === undefined ? folder : `${folder}:/bin` },
    };
    expect(await withLargeWrites(plain)).toBe(plain);
  });
});
