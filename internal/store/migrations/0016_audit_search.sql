-- Searching the audit record, the number of a record within its organisation,
-- and how long texts are kept. Times are microseconds since 1970 in UTC.

-- +goose Up

-- How many records are in audit_search. Those that were there before are put
-- there when the record is opened.
ALTER TABLE audit_head ADD COLUMN indexed BIGINT NOT NULL DEFAULT 0;

-- The place of a record among those of its organisation; -1: not known yet.
ALTER TABLE audit_event ADD COLUMN number BIGINT NOT NULL DEFAULT -1;

-- How many records an organisation has, and which of them is the first whose
-- text is kept. It stays when the organisation is deleted, as its record does.
CREATE TABLE audit_org (
    org  TEXT   NOT NULL,
    size BIGINT NOT NULL,
    kept BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT audit_org_pk PRIMARY KEY (org)
);

-- What records are found by. It says nothing that their texts do not say; noun
-- is action up to its first dot.
CREATE TABLE audit_search (
    org     TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    noun    TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    target  TEXT   NOT NULL,
    address TEXT   NOT NULL,
    request TEXT   NOT NULL,
    CONSTRAINT audit_search_pk PRIMARY KEY (org, seq)
);

-- One index for each way to search, in the order in which a page is read.
CREATE INDEX audit_search_by_time ON audit_search (org, at, seq);
CREATE INDEX audit_search_by_actor ON audit_search (org, actor, at, seq);
CREATE INDEX audit_search_by_noun ON audit_search (org, noun, at, seq);
CREATE INDEX audit_search_by_action ON audit_search (org, action, at, seq);
CREATE INDEX audit_search_by_target ON audit_search (org, target, at, seq);
CREATE INDEX audit_search_by_address ON audit_search (org, address, at, seq) WHERE address <> '';
CREATE INDEX audit_search_by_request ON audit_search (org, request, at, seq) WHERE request <> '';

-- The same over all organisations. Other searches of everything go through it.
CREATE INDEX audit_search_all ON audit_search (at, seq);
CREATE INDEX audit_search_all_request ON audit_search (request, at, seq) WHERE request <> '';

-- For how many days texts are kept, where that was set by a command.
CREATE TABLE audit_retention (
    id   BIGINT NOT NULL,
    days BIGINT NOT NULL,
    CONSTRAINT audit_retention_pk PRIMARY KEY (id),
    CONSTRAINT audit_retention_single CHECK (id = 1)
);
