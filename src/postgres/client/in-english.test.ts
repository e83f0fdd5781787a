import { expect, test } from 'vitest';
import { describeForeign, isEnglish } from './in-english.ts';

const parameters = {
  host: 'db',
  port: 5432,
  user: 'back"up',
  database: 'shop',
  sslMode: 'disable',
  password: undefined,
} as const;

test.each(['C', 'C.UTF-8', 'POSIX', 'en_US.UTF-8', 'en_GB', 'en', 'English_United States.1252'])(
  '%s is English',
  (messages) => {
    expect(isEnglish(messages)).toBe(true);
    expect(describeForeign({ messages, mayChoose: false }, parameters)).toBeUndefined();
  },
);

test.each(['de_DE.UTF-8', 'ja_JP.UTF-8', 'French_France.1252', 'enm', 'Cz', ''])('%s need not be', (messages) => {
  expect(isEnglish(messages)).toBe(false);
});

test('whoever may not choose the language of a server hears who can', () => {
  const language = { messages: 'de_DE.UTF-8', mayChoose: false };
  expect(describeForeign(language, parameters)).toBe(
    `db:5432 says its errors in de_DE.UTF-8, so that pgark has fewer hints on what pg_dump and pg_restore fail with: a superuser mends it by ALTER ROLE "back""up" SET lc_messages = 'C'`,
  );
  expect(describeForeign({ ...language, mayChoose: true }, parameters)).toBeUndefined();
  expect(describeForeign({ ...language, messages: '' }, parameters)).toBeUndefined();
});
