/** No secret: it opens backups of a made-up database in this repository. */
export const GOLDEN_PASSPHRASE = 'the golden repositories hold nothing that is secret';

/** All of the database of golden repositories, in one text: rows, sequence, large object. */
export const CONTENT_SQL = `SELECT concat_ws(' ',
  (SELECT count(*) || ':' || md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o),
  (SELECT count(*) || ':' || md5(string_agg(e::text, '|' ORDER BY at)) FROM events e),
  (SELECT count(*) FROM events_2026),
  (SELECT count(*) FROM large_orders),
  (SELECT last_value FROM tickets),
  md5(lo_get(4242)))`;
