import { describe, expect, test } from 'vitest';
import { providerFacts } from './provider.ts';

describe('what is known of a provider', () => {
  test.each([
    [undefined, undefined, { name: 'AWS', partCountMax: 10_000, equalParts: false }],
    ['s3.eu-west-1.amazonaws.com', undefined, { name: 'AWS' }],
    ['s3.nl-ams.scw.cloud', undefined, { name: 'Scaleway', partCountMax: 1_000 }],
    ['id.r2.cloudflarestorage.com', undefined, { name: 'Cloudflare R2', equalParts: true }],
    ['minio.internal', undefined, { name: 'minio.internal', partCountMax: 10_000, equalParts: false }],
    ['evilscw.cloud', undefined, { name: 'evilscw.cloud', partCountMax: 10_000 }],
    ['proxy.internal', 'Scaleway', { name: 'Scaleway', partCountMax: 1_000 }],
    ['proxy.internal', ' cloudflare ', { name: 'Cloudflare R2' }],
    ['proxy.internal', 'Minio', { name: 'Minio', partCountMax: 10_000 }],
  ])('for host %s and name %s', (host, name, facts) => {
    expect(providerFacts(host, name)).toMatchObject(facts);
  });
});
