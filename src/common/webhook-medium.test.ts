import { expect, test } from 'vitest';
import { mediumOf } from './webhook-medium.ts';

test.each([
  ['https://hooks.slack.com/services/T/B/x', 'slack'],
  ['https://hooks.slack-gov.com/services/T/B/x', 'slack'],
  ['https://discord.com/api/webhooks/1/x', 'discord'],
  ['https://ptb.discord.com/api/v10/webhooks/1/x', 'discord'],
  ['https://discordapp.com/api/webhooks/1/x', 'discord'],
  ['https://discord.com/invite/x', 'webhook'],
  ['https://notdiscord.com/api/webhooks/1/x', 'webhook'],
  ['https://hooks.slack.com.evil.example/x', 'webhook'],
  ['https://ci.example.com/hooks.slack.com', 'webhook'],
  ['no address', 'webhook'],
])('whose webhook an address is, its host says: %s is %s', (url, medium) => {
  expect(mediumOf(url)).toBe(medium);
});
