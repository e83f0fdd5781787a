import { describe, expect, test } from 'vitest';
import { refusePoolerAddress } from './pooler-host.ts';

describe('the address of a pooler', () => {
  test.each([
    [
      'ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech',
      5432,
      'is ep-cool-darkness-123456.us-east-2.aws.neon.tech',
    ],
    ['Shop-Pooler', 5432, 'the server itself is shop'],
    ['aws-0-eu-central-1.pooler.supabase.com', 6543, 'port 5432'],
    ['shop-do-user-1.db.ondigitalocean.com', 25_061, 'port 25060'],
  ])('%s:%i is refused with a hint for the direct one', (host, port, hint) => {
    expect(() => refusePoolerAddress({ host, port })).toThrow(
      expect.objectContaining({ code: 'postgres-pooler', hint: expect.stringContaining(hint) }),
    );
  });

  test.each([
    ['ep-cool-darkness-123456.us-east-2.aws.neon.tech', 5432],
    ['aws-0-eu-central-1.pooler.supabase.com', 5432],
    ['shop-do-user-1.db.ondigitalocean.com', 25_060],
    ['db.shop-pooler.example.com', 5432],
    ['pooler', 6432],
    ['/run/shop-pooler', 5432],
  ])('%s:%i may be a server', (host, port) => {
    refusePoolerAddress({ host, port });
  });
});
