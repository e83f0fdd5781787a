/** Types of messages: the ASCII code of the letter that begins them. */
export const MESSAGE = {
  commandComplete: 0x43,
  copyBothResponse: 0x57,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  copyInResponse: 0x47,
  copyOutResponse: 0x48,
  dataRow: 0x44,
  emptyQueryResponse: 0x49,
  errorResponse: 0x45,
  noticeResponse: 0x4e,
  notificationResponse: 0x41,
  parameterStatus: 0x53,
  query: 0x51,
  readyForQuery: 0x5a,
  rowDescription: 0x54,
} as const;

/** A message's type and its length. */
export const HEADER_BYTES = 5;
/** The length counts itself, but not the type. */
export const LENGTH_BYTES = 4;
