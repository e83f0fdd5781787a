import { expect, test } from 'vitest';
import { PgarkError } from '../common/errors.ts';
import { namingObject } from './corrupt.ts';
import { decompress } from './decompress.ts';
import type { Transform } from './transform.ts';

async function* blocks(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

const read = async (make: () => Transform): Promise<void> => {
  for await (const _ of namingObject('shop.sql.gz', make)(blocks('no gzip'))) continue;
};

test('what a stage says of its object names it, once', async () => {
  const damaged = expect.stringMatching(/^shop\.sql\.gz: the gzip data is damaged: /);
  const gunzip = (): Transform => decompress('gzip');
  await expect(read(gunzip)).rejects.toMatchObject({ code: 'corrupt', message: damaged });
  await expect(read(() => namingObject('shop.sql.gz', gunzip))).rejects.toMatchObject({ message: damaged });
  const wrongKey = new PgarkError('wrong-key', 'another key', { hint: 'find it' });
  const named = { code: 'wrong-key', message: 'shop.sql.gz: another key', hint: 'find it' };
  await expect(read(() => failingWith(wrongKey))).rejects.toMatchObject(named);
  const refusing = (): Transform => {
    throw wrongKey;
  };
  expect(() => namingObject('shop.sql.gz', refusing)).toThrow(expect.objectContaining(named));
});

test('what else a stage fails with stays as it is', async () => {
  for (const error of [new PgarkError('key-invalid', 'no key'), new Error('out of memory')]) {
    await expect(read(() => failingWith(error))).rejects.toBe(error);
  }
});

function failingWith(error: Error): Transform {
  return async function* failing() {
    yield* blocks('x');
    throw error;
  };
}
