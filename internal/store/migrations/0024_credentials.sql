-- Tokens that are replaced while the one before stays good for a while, tokens
-- that end, and when each was last used.

-- +goose Up

-- old_ is of the token before, until old_until; old_hash NULL: there is none.
-- token_at is when the token was made, token_until when it ends; 0: never.
ALTER TABLE device ADD COLUMN old_hash BYTEA;
ALTER TABLE device ADD COLUMN old_scram BYTEA;
ALTER TABLE device ADD COLUMN old_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN token_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN token_until BIGINT NOT NULL DEFAULT 0;
UPDATE device SET token_at = created_at;

ALTER TABLE application ADD COLUMN old_hash BYTEA;
ALTER TABLE application ADD COLUMN old_scram BYTEA;
ALTER TABLE application ADD COLUMN old_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE application ADD COLUMN token_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE application ADD COLUMN token_until BIGINT NOT NULL DEFAULT 0;
UPDATE application SET token_at = created_at;

ALTER TABLE mqtt_user ADD COLUMN old_hash BYTEA;
ALTER TABLE mqtt_user ADD COLUMN old_scram BYTEA;
ALTER TABLE mqtt_user ADD COLUMN old_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mqtt_user ADD COLUMN token_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE mqtt_user ADD COLUMN token_until BIGINT NOT NULL DEFAULT 0;
UPDATE mqtt_user SET token_at = created_at;

-- uid is that of a device, an API key or an MQTT user; version is that of its
-- token, 0: it came with a certificate or somebody else's token.
CREATE TABLE credential_use (
    org     TEXT   NOT NULL,
    uid     TEXT   NOT NULL,
    version BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    address TEXT   NOT NULL,
    CONSTRAINT credential_use_pk PRIMARY KEY (org, uid, version),
    CONSTRAINT credential_use_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
