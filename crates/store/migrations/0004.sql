-- A lease that was granted or denied. Of a command's own handle only the hash is kept, of what a vendor minted only what is sealed.
CREATE TABLE leases (
  id TEXT PRIMARY KEY NOT NULL,
  run TEXT NOT NULL,
  capability TEXT NOT NULL,
  destination TEXT NOT NULL,
  reason TEXT NOT NULL,
  kind TEXT NOT NULL,
  delivery TEXT NOT NULL,
  secret TEXT NOT NULL,
  state TEXT NOT NULL,
  made BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  used BIGINT,
  used_by TEXT NOT NULL,
  ended BIGINT,
  ended_by TEXT NOT NULL,
  handle_sha256 TEXT NOT NULL,
  minted BLOB NOT NULL
);
CREATE INDEX leases_by_run ON leases (run, capability, made);
CREATE INDEX leases_by_state ON leases (state, expires);
CREATE INDEX leases_by_handle ON leases (handle_sha256);
