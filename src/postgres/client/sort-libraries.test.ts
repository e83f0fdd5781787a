import { expect, test } from 'vitest';
import { libcHere, sortLibrariesOf, sortsOtherwise } from './sort-libraries.ts';

test.each([
  ['glibc 2.36', 'musl', true],
  ['musl', 'glibc 2.36', true],
  ['glibc 2.27', 'glibc 2.36', true],
  ['glibc', 'musl', true],
  ['glibc 2.36', 'glibc 2.36', false],
  ['musl', 'musl', false],
  ['glibc', 'glibc 2.36', false],
  [undefined, 'glibc 2.36', false],
  ['glibc 2.36', undefined, false],
])('what %s has sorted is not sorted for %s: %s', (recorded, here, otherwise) => {
  expect(sortsOtherwise(recorded, here)).toBe(otherwise);
});

test('this machine says what it sorts by', () => {
  expect(libcHere()).toMatch(process.platform === 'linux' ? /^(glibc \d+\.\d+|musl)$/ : /^undefined$/);
});

test.each([
  [
    'PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc',
    '2.36',
    '153.120',
    { libc: 'glibc 2.36', icu: '153.120' },
  ],
  ['PostgreSQL 17.2 on aarch64-unknown-linux-gnu, compiled by gcc', null, null, { libc: 'glibc' }],
  [
    'PostgreSQL 16.1 on x86_64-pc-linux-musl, compiled by gcc (Alpine 13.2)',
    null,
    '153.128',
    { libc: 'musl', icu: '153.128' },
  ],
  ['PostgreSQL 16.1 on x86_64-apple-darwin23.2.0', null, null, {}],
])('%s with %s and %s', (build, libc, icu, libraries) => {
  expect(sortLibrariesOf({ build, libc, icu })).toEqual(libraries);
});
