import type { NotificationMessage } from './message.ts';
import { factsOf, render } from './render.ts';
import { fit } from './words.ts';

const SUBJECT_LENGTH_MAX = 200;

export interface EmailBody {
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

/** One sentence a line, then the facts; the same as simple HTML, without pictures or anything to load. */
export function emailBody(message: NotificationMessage, note?: string): EmailBody {
  const { symbol, title, lead, sentences } = render(message);
  const lines = [`${symbol} ${lead}.`, ...sentences, ...(note === undefined ? [] : [note])];
  const facts = factsOf(message);
  const width = Math.max(0, ...facts.map(({ label }) => label.length)) + 2;
  const table = facts.map(({ label, value }) => `${`${label}:`.padEnd(width)}${value}`);
  const text = [...lines, ...(table.length === 0 ? [] : ['', ...table])].join('\n');
  return {
    subject: fit(`pgark: ${title}`, { lengthMax: SUBJECT_LENGTH_MAX }),
    text: `${text}\n`,
    html: html(lines, facts),
  };
}

function html(lines: readonly string[], facts: ReturnType<typeof factsOf>): string {
  const [first = '', ...others] = lines.map(escape);
  const rows = facts.map(
    ({ label, value }) =>
      `<tr><th align="left" style="padding-right:1em">${escape(label)}</th><td>${escape(value)}</td></tr>`,
  );
  return [
    '<!DOCTYPE html>',
    '<html lang="en"><head><meta charset="utf-8"></head><body style="font-family:sans-serif">',
    `<p><strong>${first}</strong></p>`,
    ...others.map((line) => `<p>${line}</p>`),
    ...(rows.length === 0 ? [] : ['<table>', ...rows, '</table>']),
    '</body></html>',
    '',
  ].join('\n');
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escape(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] ?? character);
}
