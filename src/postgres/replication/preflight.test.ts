import { expect, test } from 'vitest';
import { checkSameServer } from './preflight.ts';

const facts = { version: '15.18', versionNum: 150_018, major: 15, inRecovery: false } as Parameters<
  typeof checkSameServer
>[0];

test('an address that leads to two servers is refused; one that does not say what it is, is believed', () => {
  const known = { ...facts, systemIdentifier: '7712539176122962914' };
  // The last digit is beyond what a number holds.
  expect(() => checkSameServer(known, '7712539176122962915')).toThrow(
    'and to system 7712539176122962915 for replication',
  );
  checkSameServer(known, '7712539176122962914');
  checkSameServer(facts, '7712539176122962914');
});
