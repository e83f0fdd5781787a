/** Whose hook an address is, by its host. */
export function mediumOf(url: string): 'slack' | 'discord' | 'webhook' {
  if (!URL.canParse(url.trim())) return 'webhook';
  const { hostname, pathname } = new URL(url.trim());
  if (hostname === 'hooks.slack.com' || hostname === 'hooks.slack-gov.com') return 'slack';
  const isDiscord = /(^|\.)discord(app)?\.com$/.test(hostname);
  return isDiscord && /^\/api\/(v\d+\/)?webhooks\//.test(pathname) ? 'discord' : 'webhook';
}
