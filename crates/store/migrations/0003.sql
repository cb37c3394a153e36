-- Of an allowance: the requests that it is for, and those of them that were told to be over.
ALTER TABLE grants ADD COLUMN reads BIGINT NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
