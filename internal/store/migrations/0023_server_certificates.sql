-- What is remembered of an ACME authority: account key, certificates with their
-- keys, and open challenges, each sealed.

-- +goose Up

CREATE TABLE acme_cache (
    name   TEXT  NOT NULL,
    sealed BYTEA NOT NULL,
    CONSTRAINT acme_cache_pk PRIMARY KEY (name)
);
