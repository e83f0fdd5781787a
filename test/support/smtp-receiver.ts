import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';

interface ReceivedMail {
  readonly from: string;
  readonly to: readonly string[];
  /** Headers and body as they came. */
  readonly source: string;
  readonly secure: boolean;
  /** Who had signed in. */
  readonly user: string | undefined;
}

/** A real SMTP server on loopback. */
export interface SmtpReceiver extends AsyncDisposable {
  readonly port: number;
  readonly mails: readonly ReceivedMail[];
  /** Users and passwords that were presented, right or wrong. */
  readonly logins: readonly { readonly user: string; readonly secure: boolean }[];
}

export interface SmtpReceiverOptions {
  /** Who may send; everybody without signing in if absent. */
  readonly login?: { readonly user: string; readonly password: string };
  readonly refusedRecipients?: readonly string[];
  /** Answers to MAIL FROM before one is accepted: `450`, `550`. */
  readonly senderAnswers?: readonly number[];
  readonly server?: SMTPServerOptions;
}

export async function startSmtpReceiver(options: SmtpReceiverOptions = {}): Promise<SmtpReceiver> {
  const mails: ReceivedMail[] = [];
  const logins: { user: string; secure: boolean }[] = [];
  const senderAnswers = [...(options.senderAnswers ?? [])];
  const refuse = (code: number, words: string): Error => Object.assign(new Error(words), { responseCode: code });
  const server = new SMTPServer({
    authOptional: options.login === undefined,
    disableReverseLookup: true,
    closeTimeout: 100,
    onAuth({ username = '', password = '' }, session, done) {
      logins.push({ user: username, secure: session.secure });
      const { login } = options;
      if (login?.user === username && login.password === password) done(null, { user: username });
      else done(refuse(535, `no ${username}, not with ${password}`));
    },
    onMailFrom(_address, _session, done) {
      const code = senderAnswers.shift();
      if (code === undefined) done();
      else done(refuse(code, 'not now'));
    },
    onRcptTo({ address }, _session, done) {
      if (options.refusedRecipients?.includes(address) === true) done(refuse(550, 'no such mailbox'));
      else done();
    },
    onData(stream, session, done) {
      const chunks: Uint8Array[] = [];
      stream.on('data', (chunk: Uint8Array) => chunks.push(chunk));
      stream.on('end', () => {
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? '' : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          source: Buffer.concat(chunks).toString(),
          secure: session.secure,
          user: typeof session.user === 'string' ? session.user : undefined,
        });
        done();
      });
    },
    ...(options.server?.cert === undefined ? { disabledCommands: ['STARTTLS'] } : {}),
    ...options.server,
  });
  // A client that leaves in the middle is what some tests are about.
  server.on('error', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.server.address() as AddressInfo).port,
    mails,
    logins,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}
