-- Passkeys (WebAuthn). record is what has to be known to check one: its public
-- key, its counter and what it said of itself, as JSON.

-- +goose Up

CREATE TABLE person_passkey (
    person     TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    credential BYTEA  NOT NULL,
    record     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    CONSTRAINT person_passkey_pk PRIMARY KEY (person, id),
    CONSTRAINT person_passkey_credential_uq UNIQUE (credential),
    CONSTRAINT person_passkey_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);
