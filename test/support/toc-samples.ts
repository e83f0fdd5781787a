import { readFileSync } from 'node:fs';
import path from 'node:path';
import { readToc } from '../../src/postgres/toc/read-toc.ts';
import type { CustomToc, DirectoryToc } from '../../src/postgres/toc/toc.ts';

const folder = path.resolve(import.meta.dirname, '../golden/toc');

/** Major version of a pg_dump → the minor version of the format that it writes. */
export const SAMPLE_VERSIONS = { 13: 14, 15: 14, 16: 15, 17: 16, 18: 16 } as const;
export type SampleMajor = keyof typeof SAMPLE_VERSIONS;
export const SAMPLE_MAJORS = [13, 15, 16, 17, 18] as const satisfies readonly SampleMajor[];

/** A whole archive in custom format, or the `toc.dat` of one in directory format; test/golden/toc/README.md tells of them. */
export function sampleBytes(major: SampleMajor, format: 'custom' | 'directory'): Buffer {
  return readFileSync(path.join(folder, `${major}.${format === 'custom' ? 'dump' : 'toc.dat'}`));
}

export function customSample(major: SampleMajor): CustomToc {
  return customTocIn(sampleBytes(major, 'custom'));
}

/** Of a database with partitioned tables, by pg_dump 13. */
export function partitionedSample(): CustomToc {
  return customTocIn(readFileSync(path.join(folder, 'partitioned-13.dump')));
}

function customTocIn(bytes: Buffer): CustomToc {
  const { toc } = readToc(bytes);
  if (toc.format !== 'custom') throw new Error('the sample is of another format');
  return toc;
}

export function directorySample(major: SampleMajor): DirectoryToc {
  const { toc } = readToc(sampleBytes(major, 'directory'));
  if (toc.format !== 'directory') throw new Error('the sample is of another format');
  return toc;
}
