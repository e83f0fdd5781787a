import type { BuildContext } from './context.ts';
import { defined } from './defined.ts';
import { parseSwitch, type SetVariables } from './environment-reader.ts';
import type { TracesConfig } from './model.ts';
import type { Sections } from './schema.ts';
import type { Setting } from './tree.ts';

/** What is appended to the address of a receiver of everything: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ */
const TRACES_PATH = 'v1/traces';

/**
 * What OpenTelemetry's own variables say. Platforms set them for every program, and a backup is not to fail by them: what
 * cannot be used is left out, with a sentence for the log.
 */
export function tracesSettings(variables: SetVariables): {
  readonly settings: readonly Setting[];
  readonly warnings: readonly string[];
} {
  const settings: Setting[] = [];
  const say = (key: string, variable: string, value: string): void => {
    settings.push({ path: ['traces', key], value, origin: `environment: ${variable}`, where: variable });
  };
  const disabled = variables.get('OTEL_SDK_DISABLED');
  if (disabled !== undefined && parseSwitch(disabled.value) === true) say('enabled', disabled.variable, 'false');
  const name = variables.get('OTEL_SERVICE_NAME');
  if (name !== undefined) say('service_name', name.variable, name.value.trim());
  const headers = variables.get('OTEL_EXPORTER_OTLP_HEADERS');
  if (headers !== undefined) say('headers', headers.variable, headers.value.trim());
  const whole = variables.get('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT');
  const endpoint = whole ?? variables.get('OTEL_EXPORTER_OTLP_ENDPOINT');
  if (endpoint === undefined) return { settings, warnings: [] };
  const text = endpoint.value.trim();
  const complaint = complaintOf(text);
  if (complaint !== undefined) return { settings, warnings: [`no traces are sent: ${endpoint.variable} ${complaint}`] };
  say('url', endpoint.variable, endpoint === whole ? text : `${text.replace(/\/$/, '')}/${TRACES_PATH}`);
  return { settings, warnings: [] };
}

/** Undefined if no traces are sent. */
export async function buildTraces(
  context: BuildContext,
  section: Sections['traces'],
): Promise<TracesConfig | undefined> {
  const headers = await context.secret(['traces', 'headers'], section?.headers, section?.headers_file);
  if (section?.url === undefined || section.enabled === false) return undefined;
  const complaint = complaintOf(section.url);
  if (complaint !== undefined) context.problem(['traces', 'url'], 'config-invalid', complaint);
  return defined({ url: section.url, headers, serviceName: section.service_name ?? 'pgark' });
}

function complaintOf(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) return 'is no http or https address';
  return url.username === '' && url.password === '' ? undefined : 'has a password in it, which belongs in the headers';
}
