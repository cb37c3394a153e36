-- An OAuth connection. Its access token stands among the secrets; its refresh token and its client's secret stand here, sealed.
CREATE TABLE connections (
  name TEXT PRIMARY KEY NOT NULL,
  body TEXT NOT NULL,
  standing TEXT NOT NULL,
  fence BIGINT NOT NULL,
  refresh BLOB NOT NULL,
  refresh_version BIGINT NOT NULL,
  client BLOB NOT NULL,
  set_by TEXT NOT NULL,
  set_at BIGINT NOT NULL,
  signed_in_by TEXT NOT NULL,
  refreshed BIGINT
);
