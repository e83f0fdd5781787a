import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { PgarkError } from '../common/errors.ts';
import type { ProcessWorld } from './command.ts';

/** Asks a person, one question after the other. */
export interface Questions extends Disposable {
  /** Asks until the answer is a good one: `complaint` says what is wrong with it. Errors: `interrupted`. */
  ask(question: string, how?: QuestionHow): Promise<string>;
}

interface QuestionHow {
  /** What an empty answer means. Default: that there is none, which `complaint` may refuse. */
  readonly standard?: string;
  /** Whether the answer is a secret, which is not shown while it is typed. */
  readonly hidden?: boolean;
  readonly complaint?: (answer: string) => string | undefined;
}

/** Undefined where nobody is there to answer. */
export function questionsOn({ terminal, signal }: Pick<ProcessWorld, 'terminal' | 'signal'>): Questions | undefined {
  if (!process.stdin.isTTY || !terminal.isTerminal) return undefined;
  let isHidden = false;
  const output = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      if (!isHidden) terminal.err(chunk.toString());
      done();
    },
  });
  const left = new AbortController();
  const lines = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  lines.on('SIGINT', () => left.abort());
  lines.on('close', () => left.abort());
  const either = AbortSignal.any([signal, left.signal]);
  const askOnce = async (question: string, { standard, hidden = false }: QuestionHow): Promise<string> => {
    const prompt = `${question}${standard === undefined ? '' : ` [${standard}]`}: `;
    try {
      if (!hidden) return await lines.question(prompt, { signal: either });
      terminal.err(prompt);
      isHidden = true;
      return await lines.question('', { signal: either });
    } catch (cause) {
      if (!either.aborted) throw cause;
      throw new PgarkError('interrupted', 'interrupted; nothing was written', { cause });
    } finally {
      if (hidden) terminal.err('\n');
      isHidden = false;
    }
  };
  return {
    ask: async (question, how = {}) => {
      for (;;) {
        const answer = (await askOnce(question, how)).trim() || (how.standard ?? '');
        const complaint = how.complaint?.(answer);
        if (complaint === undefined) return answer;
        terminal.err(`  ${complaint}\n`);
      }
    },
    [Symbol.dispose]: () => lines.close(),
  };
}
