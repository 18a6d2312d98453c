-- Who is locked out, and why.

-- +goose Up

-- org is empty for the whole installation. kind is "principal", "type",
-- "address", "authority" or "client". expires_at 0: never.
CREATE TABLE lockout (
    org        TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    maker      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT lockout_pk PRIMARY KEY (org, id)
);
