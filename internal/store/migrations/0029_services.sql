-- Service accounts: who stands behind the API keys of a program.

-- +goose Up

-- Its resource groups are in resource_group_holder, with kind 8. Its API keys have
-- it as their maker.
CREATE TABLE service_account (
    org         TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    description TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    limited     BOOLEAN NOT NULL DEFAULT FALSE,
    disabled    BOOLEAN NOT NULL DEFAULT FALSE,
    created_at  BIGINT  NOT NULL,
    CONSTRAINT service_account_pk PRIMARY KEY (org, id),
    CONSTRAINT service_account_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
