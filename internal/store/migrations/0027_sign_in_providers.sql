-- Identity providers through which people sign in to an organisation. uid names
-- one for ever. roles is JSON: groups of the provider and the roles they stand
-- for, in order. sealed_secret may be empty.

-- +goose Up

CREATE TABLE sign_in_provider (
    org           TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    uid           TEXT    NOT NULL,
    issuer        TEXT    NOT NULL,
    client_id     TEXT    NOT NULL,
    sealed_secret BYTEA   NOT NULL,
    scopes        TEXT    NOT NULL,
    groups_claim  TEXT    NOT NULL,
    roles         TEXT    NOT NULL,
    second_factor TEXT    NOT NULL,
    days          BIGINT  NOT NULL,
    disabled      BOOLEAN NOT NULL,
    created_at    BIGINT  NOT NULL,
    changed_at    BIGINT  NOT NULL,
    CONSTRAINT sign_in_provider_pk PRIMARY KEY (org, name),
    CONSTRAINT sign_in_provider_uid_uq UNIQUE (uid),
    CONSTRAINT sign_in_provider_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

-- Who a subject of a provider is here. Nobody gets into another's account by
-- what a provider says of an e-mail address.
CREATE TABLE sign_in_subject (
    org      TEXT NOT NULL,
    provider TEXT NOT NULL,
    subject  TEXT NOT NULL,
    person   TEXT NOT NULL,
    CONSTRAINT sign_in_subject_pk PRIMARY KEY (provider, subject),
    CONSTRAINT sign_in_subject_provider_fk FOREIGN KEY (provider) REFERENCES sign_in_provider (uid) ON DELETE CASCADE,
    CONSTRAINT sign_in_subject_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);
CREATE INDEX sign_in_subject_person ON sign_in_subject (person);

-- The uid of the provider that a membership, or a session, comes from.
ALTER TABLE member ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE person_session ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE person_session ADD COLUMN within TEXT NOT NULL DEFAULT '';
