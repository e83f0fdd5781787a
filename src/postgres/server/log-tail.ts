import { open, stat } from 'node:fs/promises';

/** What a line of a log has at the most that is looked for; a line that is longer is known by its end. */
const LINE_CHARACTERS_MAX = 2_000;

/** A log that grows while it is read: only what has come since is read each time. */
export class LogTail {
  readonly #file: string;
  #offset: number;
  #line = '';

  private constructor(file: string, offset: number) {
    this.#file = file;
    this.#offset = offset;
  }

  /** From what is written next on. The file need not be there yet. */
  static async behind(file: string): Promise<LogTail> {
    const { size } = await stat(file).catch(() => ({ size: 0 }));
    return new LogTail(file, size);
  }

  /** Whether what has come since holds the pattern, in one line. */
  async shows(pattern: RegExp): Promise<boolean> {
    const text = this.#line + (await this.#read());
    this.#line = text.slice(text.lastIndexOf('\n') + 1).slice(-LINE_CHARACTERS_MAX);
    return pattern.test(text);
  }

  async #read(): Promise<string> {
    const log = await open(this.#file, 'r');
    try {
      const { size } = await log.stat();
      const bytes = Buffer.alloc(Math.max(0, size - this.#offset));
      const { bytesRead } = await log.read(bytes, 0, bytes.length, this.#offset);
      this.#offset += bytesRead;
      return bytes.toString('utf8', 0, bytesRead);
    } finally {
      await log.close();
    }
  }
}
