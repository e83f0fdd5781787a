import { describe, expect, test } from 'vitest';
import { assertWritable, parseFeatures, profileOf } from './features.ts';

const said = (features: object, more: object = {}): string =>
  JSON.stringify({ Name: 'x', Root: 'bucket/path', Precision: 1, Hashes: ['md5'], Features: features, ...more });

const disk = said({ Move: true, PutStream: true, SlowHash: true }, { Hashes: ['md5', 'crc32', 'sha256'] });
const s3 = said({ Copy: true, PutStream: true, BucketBased: true, BucketBasedRootOK: true });

describe('what a remote can do', () => {
  test('is read from rclone’s words for a disk', () => {
    expect(parseFeatures(disk)).toEqual({
      streams: true,
      publication: 'move',
      bucketBased: false,
      bucketMissing: false,
      hash: 'sha256',
      hashIsCheap: false,
      timeUnitNs: 1n,
    });
  });

  test('is read from rclone’s words for S3, whose times are seconds whatever rclone could keep beside them', () => {
    expect(parseFeatures(s3)).toEqual({
      streams: true,
      publication: 'direct',
      bucketBased: true,
      bucketMissing: false,
      hash: 'md5',
      hashIsCheap: true,
      timeUnitNs: 1_000_000_000n,
    });
    expect(profileOf(parseFeatures(s3), 5)).toMatchObject({
      conditionalWrites: false,
      partChecksum: 'md5',
      clockSkewMs: 5,
    });
  });

  test('tells a remote whose keys would begin with a bucket’s name', () => {
    expect(parseFeatures(said({ BucketBased: true, BucketBasedRootOK: true }, { Root: '' })).bucketMissing).toBe(true);
    // Encryption over a bucket has its root in it.
    expect(parseFeatures(said({ BucketBased: true, BucketBasedRootOK: false }, { Root: '' })).bucketMissing).toBe(
      false,
    );
  });

  test('may be nothing that is known', () => {
    const traits = parseFeatures(said({}, { Hashes: null, Precision: null }));
    expect(traits).toMatchObject({ streams: false, publication: 'none', hash: undefined, hashIsCheap: false });
    expect(profileOf(traits, 0).partChecksum).toBe('length');
    expect(() => parseFeatures('Usage: rclone')).toThrow(expect.objectContaining({ code: 'store-unsupported' }));
  });

  test('must be enough for backups: streams, and nothing visible that is not complete', () => {
    const refused = (text: string): unknown =>
      expect.objectContaining({ code: 'store-unsupported', message: expect.stringContaining(text) });
    expect(() => assertWritable(parseFeatures(disk), 'rclone:x:')).not.toThrow();
    expect(() => assertWritable(parseFeatures(s3), 'rclone:x:')).not.toThrow();
    expect(() => assertWritable(parseFeatures(said({ Move: true })), 'rclone:x:')).toThrow(
      refused('on the local disk'),
    );
    expect(() => assertWritable(parseFeatures(said({ PutStream: true })), 'rclone:x:')).toThrow(refused('rename'));
  });
});
