-- A secret has one value for the workspace (person is empty) and may have one for each person.
CREATE TABLE secrets_2 (
  name TEXT NOT NULL,
  person TEXT NOT NULL,
  kind TEXT NOT NULL,
  personal BIGINT NOT NULL,
  sealed BLOB NOT NULL,
  set_by TEXT NOT NULL,
  set_at BIGINT NOT NULL,
  last_used BIGINT,
  version BIGINT NOT NULL,
  gone BIGINT NOT NULL,
  PRIMARY KEY (name, person)
);
INSERT INTO secrets_2 (name, person, kind, personal, sealed, set_by, set_at, version, gone)
  SELECT name, '', '', 0, sealed, set_by, set_at, version, gone FROM secrets;
DROP TABLE secrets;
ALTER TABLE secrets_2 RENAME TO secrets;
