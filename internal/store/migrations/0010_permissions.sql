-- Who may do what in an organisation.

-- +goose Up

-- Roles of an organisation's own. permissions are names with spaces between them.
CREATE TABLE role (
    org         TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    description TEXT   NOT NULL,
    permissions TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    CONSTRAINT role_pk PRIMARY KEY (org, name),
    CONSTRAINT role_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

-- limited: the rights are for devices in the member's resource groups only.
-- expires_at 0: never.
CREATE TABLE member (
    org        TEXT    NOT NULL,
    person     TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    limited    BOOLEAN NOT NULL DEFAULT FALSE,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    expires_at BIGINT  NOT NULL DEFAULT 0,
    created_at BIGINT  NOT NULL,
    CONSTRAINT member_pk PRIMARY KEY (org, person),
    CONSTRAINT member_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE,
    CONSTRAINT member_person_fk FOREIGN KEY (person) REFERENCES person (id) ON DELETE CASCADE
);
CREATE INDEX member_by_person ON member (person, org);
INSERT INTO member (org, person, role, created_at) SELECT o.id, p.id, 'owner', o.created_at FROM org o, person p WHERE p.admin;

-- An invitation is accepted once, by whoever has its code.
CREATE TABLE invitation (
    org        TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    email      TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    group_ids  TEXT    NOT NULL,
    limited    BOOLEAN NOT NULL DEFAULT FALSE,
    maker      TEXT    NOT NULL,
    code_hash  BYTEA   NOT NULL,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    CONSTRAINT invitation_pk PRIMARY KEY (org, id),
    CONSTRAINT invitation_code_uq UNIQUE (code_hash),
    CONSTRAINT invitation_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);

-- What an API key may do: its role, no more than permissions if there are any,
-- and never more than whoever made it. The keys from before were made by KeepMQ
-- itself, as far as anybody knows.
ALTER TABLE application ADD COLUMN role TEXT NOT NULL DEFAULT 'manager';
ALTER TABLE application ADD COLUMN permissions TEXT NOT NULL DEFAULT '';
ALTER TABLE application ADD COLUMN limited BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE application ADD COLUMN maker_kind BIGINT NOT NULL DEFAULT 6;
ALTER TABLE application ADD COLUMN maker TEXT NOT NULL DEFAULT '';
CREATE INDEX application_by_maker ON application (org, maker_kind, maker);

-- Resource groups: devices, and who is limited to them.
CREATE TABLE resource_group (
    org         TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    CONSTRAINT resource_group_pk PRIMARY KEY (org, id),
    CONSTRAINT resource_group_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
CREATE TABLE resource_group_device (
    org         TEXT NOT NULL,
    group_id    TEXT NOT NULL,
    type        TEXT NOT NULL,
    device      TEXT NOT NULL,
    CONSTRAINT resource_group_device_pk PRIMARY KEY (org, group_id, type, device),
    CONSTRAINT resource_group_device_group_fk FOREIGN KEY (org, group_id) REFERENCES resource_group (org, id) ON DELETE CASCADE,
    CONSTRAINT resource_group_device_device_fk FOREIGN KEY (org, type, device) REFERENCES device (org, type, id) ON DELETE CASCADE
);
CREATE INDEX resource_group_by_device ON resource_group_device (org, type, device, group_id);
-- kind is that of the principal: an application or a person.
CREATE TABLE resource_group_holder (
    org      TEXT   NOT NULL,
    kind     BIGINT NOT NULL,
    holder   TEXT   NOT NULL,
    group_id TEXT   NOT NULL,
    CONSTRAINT resource_group_holder_pk PRIMARY KEY (org, kind, holder, group_id),
    CONSTRAINT resource_group_holder_group_fk FOREIGN KEY (org, group_id) REFERENCES resource_group (org, id) ON DELETE CASCADE
);
CREATE INDEX resource_group_holder_by_group ON resource_group_holder (org, group_id);
