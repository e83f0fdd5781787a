import { Secret } from '../common/secret.ts';
import type { BuildContext } from './context.ts';
import { defined } from './defined.ts';
import type { AuthConfig, NotificationConfig, Roles, ServerConfig, SmtpConfig } from './model.ts';
import type { NotificationSection, Sections } from './schema.ts';
import { defaultEventNames, eventNames } from './schema-daemon.ts';

/** A watchdog that is told of failures alone raises an alarm for want of successes. */
const PING_EVENTS = ['start', 'success', 'failure'] as const;
const DEFAULT_LISTEN = { host: '127.0.0.1', port: 8080 } as const;
/** Docker kills after 10 seconds; the rest is for aborting what has not ended by then. */
const DEFAULT_STOP_GRACE_MS = 5_000;

export async function buildNotification(
  context: BuildContext,
  name: string,
  section: NotificationSection,
): Promise<NotificationConfig> {
  const path = ['notifications', name];
  const on = section.on ?? (section.type === 'healthchecks' ? PING_EVENTS : defaultEventNames);
  const common = defined({
    name,
    on: eventNames.filter((event) => on.some((chosen) => chosen === event || chosen === '*')),
    remindEveryMs: section.remind_every,
    digest: 'digest' in section ? section.digest : undefined,
  });
  if (section.type === 'telegram') {
    const token = await context.requiredSecret([...path, 'token'], section.token, section.token_file);
    return { ...common, type: section.type, token, chat: section.chat };
  }
  if (section.type === 'email') {
    const smtp = await buildSmtp(context, path, section);
    const from = section.from ?? section.to[0] ?? '';
    return { ...common, type: section.type, smtp, from, to: section.to };
  }
  const url = await context.requiredSecret([...path, 'url'], section.url, section.url_file);
  if (url.reveal() !== '' && !/^https?:\/\/[^\s/]/.test(url.reveal())) {
    context.problem([...path, 'url'], 'config-invalid', 'is no http or https address');
  }
  switch (section.type) {
    case 'slack':
    case 'discord':
      return { ...common, type: section.type, url };
    case 'webhook': {
      const secret = await context.secret([...path, 'secret'], section.secret, section.secret_file);
      return { ...common, ...defined({ type: section.type, url, secret }) };
    }
    case 'ntfy': {
      const token = await context.secret([...path, 'token'], section.token, section.token_file);
      return { ...common, ...defined({ type: section.type, url, token }) };
    }
    case 'healthchecks':
      return { ...common, ...defined({ type: section.type, url, sendLogBytes: section.send_log }) };
    default:
      return section satisfies never;
  }
}

async function buildSmtp(
  context: BuildContext,
  path: readonly string[],
  section: Extract<NotificationSection, { type: 'email' }>,
): Promise<SmtpConfig> {
  const url = URL.canParse(section.smtp) ? new URL(section.smtp) : undefined;
  if (url === undefined || !['smtp:', 'smtps:'].includes(url.protocol) || url.hostname === '') {
    context.problem([...path, 'smtp'], 'config-invalid', 'must be smtp://host:587 or smtps://user@host:465');
    return { host: '', port: 0, tls: false };
  }
  const user = url.username === '' ? undefined : decoded(url.username);
  const inline = url.password === '' ? undefined : decoded(url.password);
  const password = await context.secret([...path, 'password'], section.password, section.password_file);
  if (inline !== undefined && password !== undefined) {
    context.problem([...path, 'smtp'], 'config-conflict', 'has a password beside the setting password');
  }
  context.origins.copy([...path, 'smtp', 'password'], [...path, inline === undefined ? 'password' : 'smtp']);
  return defined({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? (url.protocol === 'smtps:' ? 465 : 587) : Number(url.port),
    tls: url.protocol === 'smtps:',
    user,
    password: password ?? (inline === undefined ? undefined : new Secret(inline)),
  });
}

/** Percent-decoded; as it stands if a % begins no encoded character. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export async function buildServer(context: BuildContext, section: Sections['server']): Promise<ServerConfig> {
  return defined({
    listen: section?.listen ?? DEFAULT_LISTEN,
    publicUrl: section?.public_url,
    stopGraceMs: section?.stop_grace ?? DEFAULT_STOP_GRACE_MS,
    auth: await buildAuth(context, section?.auth),
  });
}

async function buildAuth(context: BuildContext, section: NonNullable<Sections['server']>['auth']): Promise<AuthConfig> {
  const roles = (given: Partial<Record<keyof Roles, readonly string[]>> | undefined): Roles => ({
    admin: given?.admin ?? [],
    operator: given?.operator ?? [],
    viewer: given?.viewer ?? [],
  });
  const mode = section?.mode ?? 'password';
  for (const key of ['issuer', 'client_id', 'user_header', 'groups_header', 'trusted']) {
    context.origins.copyIfAbsent(['server', 'auth', key], ['server', 'auth', mode, key]);
  }
  for (const role of ['admin', 'operator', 'viewer']) {
    context.origins.copyIfAbsent(['server', 'auth', 'roles', role], ['server', 'auth', mode, 'roles', role]);
  }
  if (section?.oidc !== undefined) {
    const { issuer, client_id: clientId, client_secret: direct, client_secret_file: file } = section.oidc;
    const clientSecret = await context.requiredSecret(['server', 'auth', 'oidc', 'client_secret'], direct, file);
    context.origins.copy(['server', 'auth', 'client_secret'], ['server', 'auth', 'oidc', 'client_secret']);
    return { mode: 'oidc', issuer, clientId, clientSecret, roles: roles(section.oidc.roles) };
  }
  if (section?.proxy !== undefined) {
    const { user_header: userHeader, groups_header: groupsHeader, trusted } = section.proxy;
    return defined({ mode: 'proxy' as const, userHeader, groupsHeader, trusted, roles: roles(section.proxy.roles) });
  }
  return { mode: 'password' };
}
