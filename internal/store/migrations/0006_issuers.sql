-- Identity providers whose tokens an organisation accepts. uid and version
-- together name what a token was checked against, for ever. algorithms and keys
-- are JSON; keys are public.

-- +goose Up
CREATE TABLE issuer (
    org        TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    uid        TEXT   NOT NULL,
    version    BIGINT NOT NULL,
    issuer     TEXT   NOT NULL,
    audience   TEXT   NOT NULL,
    claim      TEXT   NOT NULL,
    algorithms TEXT   NOT NULL,
    keys       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    CONSTRAINT issuer_pk PRIMARY KEY (org, name),
    CONSTRAINT issuer_uq UNIQUE (org, issuer),
    CONSTRAINT issuer_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
