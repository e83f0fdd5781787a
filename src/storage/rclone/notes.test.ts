import { expect, test } from 'vitest';
import { parseNotes } from './notes.ts';

const id = '0123456789abcdef0123456789abcdef';
const note = (more: object = {}): string =>
  `\n${JSON.stringify({ pgark: 'upload', id, key: 'shop/ü "1"', ...more })}\n`;

test('notes are read one after another, and one that is being written spoils no other', () => {
  const upload = { key: 'shop/ü "1"', uploadId: id };
  expect(parseNotes(note() + note({ key: 'b' }))).toEqual([upload, { key: 'b', uploadId: id }]);
  expect(parseNotes(`\n{"pgark":"upl${note()}\n{"pgark"`)).toEqual([upload]);
  expect(parseNotes('')).toEqual([]);
});

test.each([{ pgark: 'x' }, { id: '../x' }, { id: 5 }, { key: '../x' }, { key: '.pgark-uploads/x' }, { key: null }])(
  'what is no note of pgark’s is none: %j',
  (more) => {
    expect(parseNotes(note(more))).toEqual([]);
  },
);
