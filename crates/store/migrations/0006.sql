-- Of a secret that a vendor makes narrower ones of: what else the vendor is to be told; no secret.
ALTER TABLE secrets ADD COLUMN minter TEXT NOT NULL DEFAULT '';
-- What a vendor minted for a lease: how that stands, when it ends by itself, when something is next to be done about it,
-- and how often its end was asked for. The value stands sealed in minted.
ALTER TABLE leases ADD COLUMN mint TEXT NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN mint_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN mint_next BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN mint_tries BIGINT NOT NULL DEFAULT 0;
CREATE INDEX leases_by_mint ON leases (mint, mint_until);
