import { GIB, MIB } from '../../common/bytes.ts';

/**
 * What is known of a provider beforehand, because it cannot be found out by trying without sending thousands of parts.
 * Everything else is probed.
 */
export interface ProviderFacts {
  readonly name: string;
  readonly partCountMax: number;
  readonly partBytesMin: number;
  readonly partBytesMax: number;
  /** All parts but the last must have the same size. */
  readonly equalParts: boolean;
}

/** Limits of Amazon S3, which its imitators share: docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html. */
const amazonLimits = { partCountMax: 10_000, partBytesMin: 5 * MIB, partBytesMax: 5 * GIB, equalParts: false };

interface KnownProvider {
  readonly facts: ProviderFacts;
  /** Names a user may give, in lower case. */
  readonly names: readonly string[];
  /** Ends of host names. */
  readonly hosts: readonly string[];
}

const knownProviders: readonly KnownProvider[] = [
  { facts: { name: 'AWS', ...amazonLimits }, names: ['aws', 'amazon'], hosts: ['.amazonaws.com', '.amazonaws.com.cn'] },
  {
    // developers.cloudflare.com/r2/objects/multipart-objects: parts other than the last must be of one size.
    facts: { name: 'Cloudflare R2', ...amazonLimits, equalParts: true },
    names: ['cloudflare', 'r2', 'cloudflare r2'],
    hosts: ['.r2.cloudflarestorage.com'],
  },
  {
    // www.scaleway.com/en/docs/object-storage/api-cli/multipart-uploads: 1 to 1,000 parts.
    facts: { name: 'Scaleway', ...amazonLimits, partCountMax: 1_000 },
    names: ['scaleway'],
    hosts: ['.scw.cloud'],
  },
];

/** Facts by the configured name, else by the endpoint's host (undefined: AWS), else Amazon's limits. */
export function providerFacts(endpointHost: string | undefined, provider?: string): ProviderFacts {
  const name = provider?.trim().toLowerCase();
  const byName = knownProviders.find((known) => name !== undefined && known.names.includes(name));
  if (byName) return byName.facts;
  if (endpointHost === undefined) return { name: 'AWS', ...amazonLimits };
  const host = `.${endpointHost.toLowerCase()}`;
  const byHost = knownProviders.find((known) => known.hosts.some((end) => host.endsWith(end)));
  return byHost?.facts ?? { name: provider ?? endpointHost, ...amazonLimits };
}
