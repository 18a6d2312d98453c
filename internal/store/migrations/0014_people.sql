-- How people sign in: with a password, and with a second factor.

-- +goose Up

-- email is in lower case; empty: none. password is a hash in the PHC string
-- format, or one that was brought along; empty: none.
ALTER TABLE person ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE person ADD COLUMN password TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX person_email_uq ON person (email) WHERE email <> '';

-- verified: with a second factor.
ALTER TABLE person_session ADD COLUMN verified BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE person_session ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE person_session ADD COLUMN used_from TEXT NOT NULL DEFAULT '';

-- An authenticator (TOTP, RFC 6238). secret is sealed. step is the last time step
-- of which a code was taken: none is taken twice.
CREATE TABLE person_totp (
    person     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    secret     BYTEA   NOT NULL,
    confirmed  BOOLEAN NOT NULL DEFAULT FALSE,
    step       BIGINT  NOT NULL DEFAULT 0,
    created_at BIGINT  NOT NULL,
    CONSTRAINT person_totp_pk PRIMARY KEY (person, id),
    CONSTRAINT person_totp_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);

-- A code that is good once in place of an authenticator.
CREATE TABLE person_recovery (
    person    TEXT  NOT NULL,
    code_hash BYTEA NOT NULL,
    CONSTRAINT person_recovery_pk PRIMARY KEY (person, code_hash),
    CONSTRAINT person_recovery_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);

-- From where, and with what, a person has signed in: a keyed hash of each.
CREATE TABLE person_known (
    person  TEXT   NOT NULL,
    hash    BYTEA  NOT NULL,
    seen_at BIGINT NOT NULL,
    CONSTRAINT person_known_pk PRIMARY KEY (person, hash),
    CONSTRAINT person_known_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);

-- Whether members of the organisation need a second factor.
ALTER TABLE org ADD COLUMN second_factor BOOLEAN NOT NULL DEFAULT FALSE;
