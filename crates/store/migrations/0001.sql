CREATE TABLE runs (
  run TEXT PRIMARY KEY NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  task TEXT NOT NULL,
  argv TEXT NOT NULL,
  repo TEXT,
  profile_name TEXT NOT NULL,
  profile TEXT NOT NULL,
  model TEXT,
  person TEXT NOT NULL,
  created BIGINT NOT NULL,
  ended BIGINT,
  attempts BIGINT NOT NULL,
  launches BIGINT NOT NULL,
  cancel_asked BIGINT NOT NULL,
  calls BIGINT NOT NULL,
  used_input BIGINT NOT NULL,
  used_output BIGINT NOT NULL,
  used_cache_read BIGINT NOT NULL,
  used_cache_write BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  entries BIGINT NOT NULL,
  server_seq BIGINT NOT NULL,
  operator_seq BIGINT NOT NULL,
  base TEXT,
  branch TEXT
);
CREATE INDEX runs_by_time ON runs (created DESC);
CREATE INDEX runs_by_state ON runs (state);

CREATE TABLE events (
  run TEXT NOT NULL,
  n BIGINT NOT NULL,
  at BIGINT NOT NULL,
  source TEXT NOT NULL,
  source_seq BIGINT NOT NULL,
  kind TEXT NOT NULL,
  event TEXT NOT NULL,
  PRIMARY KEY (run, n),
  UNIQUE (run, source, source_seq)
);

CREATE TABLE handles (
  sha256 TEXT PRIMARY KEY NOT NULL,
  run TEXT NOT NULL,
  model TEXT NOT NULL,
  expires BIGINT NOT NULL,
  dead BIGINT NOT NULL
);
CREATE INDEX handles_by_run ON handles (run);

CREATE TABLE grants (
  id TEXT PRIMARY KEY NOT NULL,
  run TEXT NOT NULL,
  model TEXT NOT NULL,
  state TEXT NOT NULL,
  made BIGINT NOT NULL,
  settled BIGINT,
  reserved_tokens BIGINT NOT NULL,
  reserved_cost BIGINT NOT NULL,
  price TEXT NOT NULL,
  used_input BIGINT NOT NULL,
  used_output BIGINT NOT NULL,
  used_cache_read BIGINT NOT NULL,
  used_cache_write BIGINT NOT NULL,
  cost BIGINT NOT NULL,
  status BIGINT NOT NULL,
  interrupted BIGINT NOT NULL
);
CREATE INDEX grants_by_run ON grants (run, state);

CREATE TABLE secrets (
  name TEXT PRIMARY KEY NOT NULL,
  sealed BLOB NOT NULL,
  set_by TEXT NOT NULL,
  set_at BIGINT NOT NULL,
  version BIGINT NOT NULL,
  gone BIGINT NOT NULL
);

CREATE TABLE models (
  name TEXT PRIMARY KEY NOT NULL,
  body TEXT NOT NULL,
  set_by TEXT NOT NULL,
  set_at BIGINT NOT NULL
);

CREATE TABLE workspace_keys (
  name TEXT PRIMARY KEY NOT NULL,
  sealed BLOB NOT NULL
);

CREATE TABLE links (
  sha256 TEXT PRIMARY KEY NOT NULL,
  person TEXT NOT NULL,
  expires BIGINT NOT NULL
);

CREATE TABLE sessions (
  sha256 TEXT PRIMARY KEY NOT NULL,
  person TEXT NOT NULL,
  made BIGINT NOT NULL,
  expires BIGINT NOT NULL
);

CREATE TABLE evidence (
  n BIGINT PRIMARY KEY NOT NULL,
  source TEXT NOT NULL,
  source_seq BIGINT NOT NULL,
  body BLOB NOT NULL,
  head BLOB NOT NULL,
  UNIQUE (source, source_seq)
);

CREATE TABLE heads (
  n BIGINT PRIMARY KEY NOT NULL,
  note TEXT NOT NULL,
  at BIGINT NOT NULL
);
