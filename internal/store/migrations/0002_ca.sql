-- The certificate authority. Times are microseconds since 1970 in UTC; serials
-- are 32 hexadecimal digits.

-- +goose Up

-- role is "root" or "issuing". The newest of a role signs.
CREATE TABLE ca_authority (
    serial      TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    certificate BYTEA  NOT NULL,
    sealed_key  BYTEA  NOT NULL,
    not_before  BIGINT NOT NULL,
    CONSTRAINT ca_authority_pk PRIMARY KEY (serial)
);

-- The ledger: what may be signed, and what was. state is "reserved" or
-- "issued"; what is not here, or only reserved, is not good.
CREATE TABLE ca_certificate (
    serial      TEXT   NOT NULL,
    profile     TEXT   NOT NULL,
    issuer      TEXT   NOT NULL,
    org         TEXT   NOT NULL,
    kind        BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    key_hash    BYTEA  NOT NULL,
    state       TEXT   NOT NULL,
    not_before  BIGINT NOT NULL,
    not_after   BIGINT NOT NULL,
    reserved_at BIGINT NOT NULL,
    issued_at   BIGINT,
    revoked_at  BIGINT,
    reason      BIGINT,
    CONSTRAINT ca_certificate_pk PRIMARY KEY (serial),
    CONSTRAINT ca_certificate_state CHECK (state IN ('reserved', 'issued'))
);
CREATE INDEX ca_certificate_principal ON ca_certificate (org, kind, name, reserved_at);
CREATE INDEX ca_certificate_end ON ca_certificate (not_after);

-- The server's own certificate and key.
CREATE TABLE ca_server (
    id         BIGINT NOT NULL,
    serial     TEXT   NOT NULL,
    chain      BYTEA  NOT NULL,
    sealed_key BYTEA  NOT NULL,
    CONSTRAINT ca_server_pk PRIMARY KEY (id),
    CONSTRAINT ca_server_single CHECK (id = 1)
);
