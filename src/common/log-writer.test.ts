import { describe, expect, test } from 'vitest';
import { createLogger, type LogLevel, type LogWriterOptions } from './log-writer.ts';
import { Secret } from './secret.ts';

function recorded(options: Pick<LogWriterOptions, 'format' | 'level'>) {
  const lines: string[] = [];
  const logger = createLogger({ ...options, write: (line) => void lines.push(line) });
  return { logger, lines, objects: () => lines.map((line): Record<string, unknown> => JSON.parse(line)) };
}

const LEVELS = ['debug', 'info', 'success', 'warning', 'error'] as const satisfies LogLevel[];
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe('a logger of JSON lines', () => {
  test('writes time, level, event, message, service and the fields of an event', () => {
    const { logger, lines, objects } = recorded({ format: 'json', level: 'debug' });
    logger.success('backup.committed', 'backed up shop', { backupId: 'x', storedBytes: 12 });
    expect(lines).toHaveLength(1);
    expect(lines[0]?.endsWith('}\n')).toBe(true);
    expect(objects()[0]).toEqual({
      level: 'SUCCESS',
      time: expect.stringMatching(TIME),
      service: 'pg_backup',
      event: 'backup.committed',
      message: 'backed up shop',
      backupId: 'x',
      storedBytes: 12,
    });
  });

  test('gives the fields of a child to each of its events, and to those of its children', () => {
    const { logger, objects } = recorded({ format: 'json', level: 'info' });
    logger.child({ runId: '1' }).child({ source: 'shop' }).info('x', 'y', { bytes: 3 });
    logger.info('x', 'y');
    expect(objects()[0]).toMatchObject({ runId: '1', source: 'shop', bytes: 3 });
    expect(objects()[1]).not.toHaveProperty('runId');
  });

  test('prints no secret', () => {
    const { logger, lines } = recorded({ format: 'json', level: 'debug' });
    logger.child({ key: new Secret('hunter2') }).error('x', 'y', { nested: { password: new Secret('hunter2') } });
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).toContain('[redacted]');
  });

  test('keeps a message of several lines on one', () => {
    const { logger, lines } = recorded({ format: 'json', level: 'debug' });
    logger.info('x', 'first\nsecond');
    expect(lines.join('').match(/\n/g)).toHaveLength(1);
  });
});

describe('a logger for people', () => {
  test('writes time, level and message', () => {
    const { logger, lines } = recorded({ format: 'text', level: 'info' });
    logger.warning('clock.skew', 'the clocks differ', { skewMs: 5 });
    const [time, ...rest] = lines.join('').split(' ');
    expect(time).toMatch(TIME);
    expect(rest.join(' ')).toBe('WARNING the clocks differ\n');
  });
});

for (const format of ['json', 'text'] as const) {
  test.each(LEVELS)(`as ${format}, drops what is less severe than %s`, (level) => {
    const { logger, lines } = recorded({ format, level });
    for (const each of LEVELS) logger.child({})[each]('event', each);
    expect(lines).toHaveLength(LEVELS.length - LEVELS.indexOf(level));
  });
}
