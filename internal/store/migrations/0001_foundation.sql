-- Wrapped keys and the audit record. Times are microseconds since 1970 in UTC.

-- +goose Up

-- name is "installation" or "org:" and an organisation's id. Only the master
-- key opens wrapped.
CREATE TABLE data_key (
    name       TEXT   NOT NULL,
    wrapped    BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT data_key_pk PRIMARY KEY (name)
);

-- The one row whose update gives an event its number. It orders the writers
-- where there are several.
CREATE TABLE audit_head (
    id   BIGINT NOT NULL,
    size BIGINT NOT NULL,
    CONSTRAINT audit_head_pk PRIMARY KEY (id),
    CONSTRAINT audit_head_single CHECK (id = 1)
);
INSERT INTO audit_head (id, size) VALUES (1, 0);

-- record is the text that was hashed, byte for byte.
CREATE TABLE audit_event (
    seq    BIGINT NOT NULL,
    org    TEXT   NOT NULL,
    record TEXT   NOT NULL,
    CONSTRAINT audit_event_pk PRIMARY KEY (seq)
);
CREATE INDEX audit_event_org ON audit_event (org, seq);

-- The nodes of the Merkle tree (RFC 6962) over all records, in the order in
-- which they become known.
CREATE TABLE audit_hash (
    idx  BIGINT NOT NULL,
    hash BYTEA  NOT NULL,
    CONSTRAINT audit_hash_pk PRIMARY KEY (idx)
);

CREATE TABLE audit_signer (
    id         BIGINT NOT NULL,
    verifier   TEXT   NOT NULL,
    sealed_key BYTEA  NOT NULL,
    CONSTRAINT audit_signer_pk PRIMARY KEY (id),
    CONSTRAINT audit_signer_single CHECK (id = 1)
);
