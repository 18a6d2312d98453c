-- The server certificates of organisations, and names for them beside
-- {org}.messaging.{domain}.

-- +goose Up

-- Given by the operator, who knows whose a name is.
CREATE TABLE org_server_name (
    name       TEXT   NOT NULL,
    org        TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT org_server_name_pk PRIMARY KEY (name),
    CONSTRAINT org_server_name_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
CREATE INDEX org_server_name_org ON org_server_name (org, name);

-- request is a certificate signing request; chain is empty until it was signed,
-- and then DER, the server's own first.
CREATE TABLE org_server_certificate (
    org        TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    sealed_key BYTEA  NOT NULL,
    request    BYTEA  NOT NULL,
    chain      BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    CONSTRAINT org_server_certificate_pk PRIMARY KEY (org, id),
    CONSTRAINT org_server_certificate_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
