import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { makeTempDirectory } from './temp.ts';

export interface Certificate {
  /** PEM, both. */
  readonly key: string;
  readonly cert: string;
}

const NAMES = 'IP:127.0.0.1,IP:::ffff:127.0.0.1,DNS:localhost';

/** A self-made certificate for 127.0.0.1 and localhost, valid for a day, that nobody trusts by himself. */
export async function makeCertificate(): Promise<Certificate> {
  await using directory = await makeTempDirectory();
  const [keyFile, certFile] = [directory.join('key.pem'), directory.join('cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', `subjectAltName=${NAMES}`];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  await promisify(execFile)('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', keyFile, '-out', certFile]);
  return { key: await readFile(keyFile, 'utf8'), cert: await readFile(certFile, 'utf8') };
}
