-- Organisations and everything that may connect or sign in.
--
-- Every table of an organisation's things leads with its org, so that no query
-- can reach across. Secrets are kept as keyed hashes only. Times are
-- microseconds since 1970 in UTC. A uid tells a thing from a later one that
-- was given the same name.

-- +goose Up
CREATE TABLE org (
    id         TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    profile    TEXT    NOT NULL,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT  NOT NULL,
    CONSTRAINT org_pk PRIMARY KEY (id)
);

-- The id of a deleted organisation is never given again: messages, sessions
-- and certificates elsewhere may still carry it.
CREATE TABLE retired_org (
    id         TEXT   NOT NULL,
    deleted_at BIGINT NOT NULL,
    CONSTRAINT retired_org_pk PRIMARY KEY (id)
);

CREATE TABLE device_type (
    org         TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    class       TEXT   NOT NULL,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    CONSTRAINT device_type_pk PRIMARY KEY (org, id),
    CONSTRAINT device_type_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

CREATE TABLE device (
    org           TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    uid           TEXT    NOT NULL,
    class         TEXT    NOT NULL,
    gateway_type  TEXT    NOT NULL DEFAULT '',
    gateway_id    TEXT    NOT NULL DEFAULT '',
    disabled      BOOLEAN NOT NULL DEFAULT FALSE,
    token_hash    BYTEA   NOT NULL,
    token_version BIGINT  NOT NULL,
    created_at    BIGINT  NOT NULL,
    CONSTRAINT device_pk PRIMARY KEY (org, type, id),
    CONSTRAINT device_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE,
    CONSTRAINT device_type_fk FOREIGN KEY (org, type) REFERENCES device_type (org, id)
);

-- One index for each order in which a page of devices is read, so that a page
-- costs the same however many devices there are.
CREATE INDEX device_by_id ON device (org, id, type);
CREATE INDEX device_by_state ON device (org, disabled, type, id);
CREATE INDEX device_by_state_id ON device (org, disabled, id, type);
CREATE INDEX device_by_gateway ON device (org, gateway_type, gateway_id, type, id) WHERE gateway_id <> '';

CREATE TABLE device_certificate (
    serial    TEXT   NOT NULL,
    org       TEXT   NOT NULL,
    type      TEXT   NOT NULL,
    device    TEXT   NOT NULL,
    issued_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    CONSTRAINT device_certificate_pk PRIMARY KEY (serial),
    CONSTRAINT device_certificate_device_fk FOREIGN KEY (org, type, device)
        REFERENCES device (org, type, id) ON DELETE CASCADE
);
CREATE INDEX device_certificate_by_device ON device_certificate (org, type, device);

CREATE TABLE enrolment (
    id         TEXT   NOT NULL,
    org        TEXT   NOT NULL,
    type       TEXT   NOT NULL,
    device     TEXT   NOT NULL,
    token_hash BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    key_hash   BYTEA,
    CONSTRAINT enrolment_pk PRIMARY KEY (id),
    CONSTRAINT enrolment_token_uq UNIQUE (token_hash),
    CONSTRAINT enrolment_device_fk FOREIGN KEY (org, type, device)
        REFERENCES device (org, type, id) ON DELETE CASCADE
);
CREATE INDEX enrolment_by_device ON enrolment (org, type, device);
CREATE INDEX enrolment_by_expiry ON enrolment (expires_at);

CREATE TABLE application (
    org           TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    uid           TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    disabled      BOOLEAN NOT NULL DEFAULT FALSE,
    token_hash    BYTEA   NOT NULL,
    token_version BIGINT  NOT NULL,
    created_at    BIGINT  NOT NULL,
    CONSTRAINT application_pk PRIMARY KEY (org, key),
    CONSTRAINT application_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

CREATE TABLE mqtt_user (
    org           TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    uid           TEXT    NOT NULL,
    disabled      BOOLEAN NOT NULL DEFAULT FALSE,
    token_hash    BYTEA   NOT NULL,
    token_version BIGINT  NOT NULL,
    rules         TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    CONSTRAINT mqtt_user_pk PRIMARY KEY (org, name),
    CONSTRAINT mqtt_user_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

CREATE TABLE person (
    id         TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    admin      BOOLEAN NOT NULL DEFAULT FALSE,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT  NOT NULL,
    CONSTRAINT person_pk PRIMARY KEY (id)
);

CREATE TABLE sign_in_code (
    id         TEXT   NOT NULL,
    person     TEXT   NOT NULL,
    purpose    TEXT   NOT NULL,
    code_hash  BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT sign_in_code_pk PRIMARY KEY (id),
    CONSTRAINT sign_in_code_hash_uq UNIQUE (code_hash),
    CONSTRAINT sign_in_code_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);

CREATE TABLE person_session (
    id         TEXT   NOT NULL,
    person     TEXT   NOT NULL,
    purpose    TEXT   NOT NULL,
    token_hash BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address    TEXT   NOT NULL,
    user_agent TEXT   NOT NULL,
    CONSTRAINT person_session_pk PRIMARY KEY (id),
    CONSTRAINT person_session_token_uq UNIQUE (token_hash),
    CONSTRAINT person_session_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);
CREATE INDEX person_session_by_person ON person_session (person, id);

-- At most one row: what the first start created.
CREATE TABLE installation (
    id               BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    first_sign_in_at BIGINT,
    person           TEXT   NOT NULL,
    org              TEXT   NOT NULL,
    device_type      TEXT   NOT NULL,
    device           TEXT   NOT NULL,
    application      TEXT   NOT NULL,
    CONSTRAINT installation_pk PRIMARY KEY (id),
    CONSTRAINT installation_one_ck CHECK (id = 1)
);
