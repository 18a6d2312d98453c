-- What was unusual, who is told, and how far that has got.

-- +goose Up

-- state is "open", "acknowledged" or "resolved". count is how often the same was
-- seen since first_at.
CREATE TABLE alert (
    org        TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    summary    TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    count      BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    changed_at BIGINT NOT NULL DEFAULT 0,
    changed_by TEXT   NOT NULL DEFAULT '',
    CONSTRAINT alert_pk PRIMARY KEY (org, id),
    CONSTRAINT alert_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
CREATE INDEX alert_same ON alert (org, rule, subject, first_at);

-- Secrets are sealed for the organisation. The former one signs too, until
-- former_until.
CREATE TABLE webhook (
    org          TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    url          TEXT    NOT NULL,
    secret       BYTEA   NOT NULL,
    former       BYTEA,
    former_until BIGINT  NOT NULL DEFAULT 0,
    disabled     BOOLEAN NOT NULL DEFAULT FALSE,
    created_at   BIGINT  NOT NULL,
    CONSTRAINT webhook_pk PRIMARY KEY (org, id),
    CONSTRAINT webhook_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

-- kind is "webhook" or "mail", target the webhook's id or the e-mail address.
-- state is "waiting", "delivered" or "failed".
CREATE TABLE alert_delivery (
    org        TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    alert      TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    last_error TEXT   NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT alert_delivery_pk PRIMARY KEY (org, id),
    CONSTRAINT alert_delivery_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
CREATE INDEX alert_delivery_due ON alert_delivery (state, next_at);
CREATE INDEX alert_delivery_target ON alert_delivery (org, target, id);

-- JSON: the e-mail addresses that an organisation's alerts go to.
CREATE TABLE alert_setting (
    org    TEXT NOT NULL,
    emails TEXT NOT NULL,
    CONSTRAINT alert_setting_pk PRIMARY KEY (org),
    CONSTRAINT alert_setting_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
