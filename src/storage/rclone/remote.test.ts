import { describe, expect, test } from 'vitest';
import { argumentOf, parseRemote } from './remote.ts';

describe('a remote', () => {
  test.each([
    ['gdrive:', 'gdrive:', 'gdrive:a/b'],
    ['gdrive:pg/x', 'gdrive:pg/x', 'gdrive:pg/x/a/b'],
    ['gdrive:pg/x//', 'gdrive:pg/x', 'gdrive:pg/x/a/b'],
    ['disk:/srv/backups', 'disk:/srv/backups', 'disk:/srv/backups/a/b'],
    ['disk:/', 'disk:/', 'disk:/a/b'],
    ['my remote_1.x:a:b', 'my remote_1.x:a:b', 'my remote_1.x:a:b/a/b'],
  ])('%j is the root %j, and an object is %j', (text, root, argument) => {
    const remote = parseRemote(text);
    expect(argumentOf(remote, '')).toBe(root);
    expect(argumentOf(remote, 'a/b')).toBe(argument);
  });

  test.each([':s3,secret_access_key=topsecret:bucket', 's3,secret_access_key=topsecret:bucket', ':local:/x'])(
    'is not a connection string, whose settings everybody could see: %j',
    (text) => {
      expect(() => parseRemote(text)).toThrow(
        expect.objectContaining({ code: 'storage-config-invalid', message: expect.not.stringContaining('topsecret') }),
      );
    },
  );

  test.each(['', 'gdrive', '/path', '/a:b', '--config=x:y', 'a\\b:c', 'a:b\nc'])('is not %j', (text) => {
    expect(() => parseRemote(text)).toThrow(expect.objectContaining({ code: 'storage-config-invalid' }));
  });
});
