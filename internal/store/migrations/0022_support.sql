-- The installation's operator looks into an organisation, by its leave.

-- +goose Up

-- granted_at 0: it is asked for. ended_at 0: it has not been ended; it is over at
-- expires_at in any case. messages: what devices say may be seen, too.
CREATE TABLE support_access (
    org        TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    person     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    messages   BOOLEAN NOT NULL DEFAULT FALSE,
    asked_at   BIGINT  NOT NULL,
    granted_at BIGINT  NOT NULL DEFAULT 0,
    grantor    TEXT    NOT NULL DEFAULT '',
    ended_at   BIGINT  NOT NULL DEFAULT 0,
    expires_at BIGINT  NOT NULL,
    CONSTRAINT support_access_pk PRIMARY KEY (org, id),
    CONSTRAINT support_access_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE,
    CONSTRAINT support_access_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);
CREATE INDEX support_access_by_person ON support_access (org, person, expires_at);
