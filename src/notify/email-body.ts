import type { Digest } from './digest.ts';
import { type DigestSection, digestSections, periodOf } from './digest-text.ts';
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
  if (message.event === 'digest') return digestBody(message);
  const { symbol, title, lead, sentences } = render(message);
  const lines = [`${symbol} ${lead}.`, ...sentences, ...(note === undefined ? [] : [note])];
  const facts = factsOf(message);
  const width = Math.max(0, ...facts.map(({ label }) => label.length)) + 2;
  const table = facts.map(({ label, value }) => `${`${label}:`.padEnd(width)}${value}`);
  const text = [...lines, ...(table.length === 0 ? [] : ['', ...table])].join('\n');
  return {
    subject: subjectOf(title),
    text: `${text}\n`,
    html: html(lines, facts),
  };
}

function subjectOf(title: string): string {
  return fit(`pgark: ${title}`, { lengthMax: SUBJECT_LENGTH_MAX });
}

/** A heading for each part, and what belongs to an item set in below it. */
export function digestBody(digest: Digest): EmailBody {
  const { symbol, title, lead } = render(digest);
  const sections = digestSections(digest);
  const lines = sections.flatMap(({ title: heading, items }) => [
    '',
    heading.toUpperCase(),
    ...items.flatMap(({ text, details }) => [`  ${text}`, ...details.map((detail) => `      ${detail}`)]),
  ]);
  return {
    subject: subjectOf(title),
    text: `${[`${symbol} ${lead}.`, `${periodOf(digest)}.`, ...lines].join('\n')}\n`,
    html: page([
      `<p><strong>${escape(`${symbol} ${lead}.`)}</strong></p>`,
      `<p>${escape(`${periodOf(digest)}.`)}</p>`,
      ...sections.flatMap(sectionHtml),
    ]),
  };
}

function sectionHtml({ title, items }: DigestSection): readonly string[] {
  return [
    `<h3>${escape(title)}</h3>`,
    '<ul style="list-style:none;padding-left:0">',
    ...items.map(({ text, details }) => {
      const below = details.map((detail) => `<br><span style="padding-left:2em">${escape(detail)}</span>`).join('');
      return `<li>${escape(text)}${below}</li>`;
    }),
    '</ul>',
  ];
}

function html(lines: readonly string[], facts: ReturnType<typeof factsOf>): string {
  const [first = '', ...others] = lines.map(escape);
  const rows = facts.map(
    ({ label, value }) =>
      `<tr><th align="left" style="padding-right:1em">${escape(label)}</th><td>${escape(value)}</td></tr>`,
  );
  return page([
    `<p><strong>${first}</strong></p>`,
    ...others.map((line) => `<p>${line}</p>`),
    ...(rows.length === 0 ? [] : ['<table>', ...rows, '</table>']),
  ]);
}

function page(elements: readonly string[]): string {
  return [
    '<!DOCTYPE html>',
    '<html lang="en"><head><meta charset="utf-8"></head><body style="font-family:sans-serif">',
    ...elements,
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
