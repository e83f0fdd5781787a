import { describe, expect, test } from 'vitest';
import { type Answer, status } from '../../test/support/http-receiver.ts';
import { AGAIN, LOST, SOON_MS, WalScene } from '../../test/support/wal-scene.ts';

const QUARTER_MS = 16 * 60_000;

describe('WAL that is lost', () => {
  test('is told each time, and its end when what follows has a base backup', async () => {
    await using self = await WalScene.open();
    await self.archives(2);
    await self.base();
    await self.begin();
    for (const round of [0, 1]) {
      const before = self.wanted;
      self.loses(2);
      await self.told(2 * round + 1);
      await self.archives(2);
      await self.clock.advance(SOON_MS);
      expect(self.wanted).toBeGreaterThan(before);
      expect(self.titles.slice(2 * round)).toEqual([LOST]);
      await self.base();
      await self.clock.advance(SOON_MS);
      await self.told(2 * round + 2);
    }
    await self.clock.advance(QUARTER_MS);
    expect(self.titles).toEqual([LOST, AGAIN, LOST, AGAIN]);
  });

  test('is told each time to those who want to hear of no end', async () => {
    await using self = await WalScene.open({ on: '[wal_gap]' });
    await self.archives(2);
    await self.begin();
    for (const count of [1, 2]) {
      self.loses(2);
      await self.told(count);
      await self.archives(2);
      await self.base();
      await self.clock.advance(QUARTER_MS);
    }
    expect(self.titles).toEqual([LOST, LOST]);
  });

  test('is over also for a process that was not there when it was told', async () => {
    await using self = await WalScene.open();
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.told(1);
    await self.archives(2);
    await self.base();
    await self.begin();
    await self.clock.advance(QUARTER_MS);
    await self.told(2);
    expect(self.titles).toEqual([LOST, AGAIN]);
  });

  test('is over for those who could not be reached at first as soon as they can be', async () => {
    await using self = await WalScene.open({ answers: [status(200), status(500), status(200)] });
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.told(1);
    await self.archives(2);
    await self.base();
    await self.clock.advance(SOON_MS);
    await self.told(2);
    await self.clock.advance(QUARTER_MS);
    await self.told(3);
    await self.clock.advance(QUARTER_MS);
    expect(self.titles).toEqual([LOST, AGAIN, AGAIN]);
  });

  test('is not over before the server has said whether any is', async () => {
    await using self = await WalScene.open();
    await self.archives(2);
    await self.base();
    await self.begin();
    self.losesSlot();
    await self.told(1);
    await self.clock.advance(1_000);
    self.loses(2);
    await self.told(2);
    await self.clock.advance(SOON_MS);
    expect(self.titles).toEqual([LOST, LOST]);
  });

  test('is over where none was, after all', async () => {
    await using self = await WalScene.open();
    await self.archives(2);
    await self.base();
    await self.begin();
    self.losesSlot();
    await self.archives(2);
    await self.clock.advance(SOON_MS);
    await self.told(2);
    expect(self.titles).toEqual([LOST, AGAIN]);
    expect(self.wanted).toBe(0);
  });

  test('is over also where the base backup is there before the message has arrived', async () => {
    const arrival = Promise.withResolvers<void>();
    const late: Answer = (response) => void arrival.promise.then(() => response.writeHead(200).end());
    await using self = await WalScene.open({ answers: [late, status(200)] });
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.archives(2);
    await self.base();
    await self.clock.advance(SOON_MS);
    arrival.resolve();
    await self.told(2);
    expect(self.titles).toEqual([LOST, AGAIN]);
  });

  test('is not over while nothing of what follows can be recovered, although it is all that is left', async () => {
    await using self = await WalScene.open();
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.told(1);
    await self.archives(2);
    for (const number of [1, 2]) await self.removes(number);
    await self.clock.advance(QUARTER_MS);
    expect(self.titles).toEqual([LOST]);
  });
});
