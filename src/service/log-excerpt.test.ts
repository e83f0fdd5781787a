import { describe, expect, test } from 'vitest';
import { createLogger } from '../common/log-writer.ts';
import { LogExcerpt } from './log-excerpt.ts';

const clock = { now: () => new Date('2026-11-20T02:00:00Z') };

describe('the tail of a log', () => {
  test('holds what was logged, through children too, but for details; all of it is passed on', () => {
    const written: string[] = [];
    const tail = new LogExcerpt(clock);
    const logger = tail.wrap(createLogger({ format: 'text', level: 'debug', write: (line) => written.push(line) }));
    logger.info('a', 'it begins');
    logger.child({ runId: 'x' }).error('b', 'it fails');
    logger.debug('c', 'a detail');
    expect(tail.runId).toBe('x');
    expect(tail.text()).toBe('2026-11-20T02:00:00.000Z INFO it begins\n2026-11-20T02:00:00.000Z ERROR it fails\n');
    expect(written.map((line) => line.slice(25))).toEqual(['INFO it begins\n', 'ERROR it fails\n', 'DEBUG a detail\n']);
  });

  test('is bounded: the last lines stay, long ones are cut', () => {
    const tail = new LogExcerpt(clock);
    const logger = tail.wrap(createLogger({ format: 'text', level: 'error', write: () => {} }));
    for (let line = 0; line < 200; line += 1) logger.info('a', `${line} ${'ü'.repeat(10_000)}`);
    const text = tail.text();
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(100_000);
    expect(text).toMatch(/INFO 199 ü+\n$/);
    expect(text).toMatch(/^2026/);
  });
});
