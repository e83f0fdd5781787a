import { z } from 'zod';
import { configSchema } from './schema.ts';

const LINE_CHARACTERS_MAX = 120;

/**
 * The JSON Schema of the configuration file as it is published for editors: the text of config.schema.json. It is about
 * what is written, before `${VAR}` is replaced.
 */
export function configJsonSchemaText(): string {
  const { $schema, ...schema } = z.toJSONSchema(configSchema, { io: 'input' });
  const published = {
    $schema,
    title: 'pgark configuration',
    description:
      'Configuration file of pgark. ${VAR} and ${VAR:-default} stand for environment variables; $${ is a plain ${.',
    ...schema,
  };
  return `${JSON.stringify(published, undefined, 2).replace(/( *)(.*)\[\n([^[\]{}]*)\n *\](,?)/g, oneLine)}\n`;
}

/** A list of plain values on one line, if it fits: as the formatter would have it. */
function oneLine(lines: string, indent: string, start: string, values: string, comma: string): string {
  const line = `${indent}${start}[${values.replace(/\n\s*/g, ' ').trim()}]${comma}`;
  return line.length <= LINE_CHARACTERS_MAX ? line : lines;
}
