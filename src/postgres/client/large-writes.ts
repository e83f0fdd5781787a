import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { type ProgramSpec, programText } from '../../common/child-process.ts';

const WRITE_BYTES = 64 * 1024;
/** How long the trial may take; whatever is slower than this is not worth it. */
const TRIAL_MS_MAX = 5_000;

/**
 * The same program, made to write its stdout in pieces of 64 KiB where coreutils' `stdbuf` is at hand. The C library
 * writes 4 KiB at a time to what is no terminal and no file, and each such piece wakes us up: half of the processor time
 * that it takes to hand a dump over. `stdbuf` becomes the program, so that its process, exit status and signals stay the
 * program's own. It is tried with `--version` first: whoever has none that works runs the program as it is.
 */
export async function withLargeWrites(spec: ProgramSpec, signal?: AbortSignal): Promise<ProgramSpec> {
  const stdbuf = await findStdbuf(spec.env['PATH'] ?? '');
  if (stdbuf === undefined) return spec;
  const wrapped = { ...spec, path: stdbuf, args: [`--output=${WRITE_BYTES}`, spec.path, ...spec.args] };
  const trial = { ...wrapped, args: [`--output=${WRITE_BYTES}`, spec.path, '--version'] };
  const limit = AbortSignal.timeout(TRIAL_MS_MAX);
  return (await works(trial, signal === undefined ? limit : AbortSignal.any([signal, limit]))) ? wrapped : spec;
}

async function findStdbuf(searchPath: string): Promise<string | undefined> {
  for (const folder of searchPath.split(delimiter)) {
    const path = join(folder, 'stdbuf');
    const usable =
      folder !== '' &&
      (await access(path, constants.X_OK).then(
        () => true,
        () => false,
      ));
    if (usable) return path;
  }
  return undefined;
}

/** The loader says on stderr, and goes on, if it cannot use what `stdbuf` gives it. */
async function works(spec: ProgramSpec, signal: AbortSignal): Promise<boolean> {
  let complaints = 0;
  try {
    const text = await programText({ ...spec, onStderrLine: () => (complaints += 1) }, signal);
    return text !== '' && complaints === 0;
  } catch {
    return false;
  }
}
