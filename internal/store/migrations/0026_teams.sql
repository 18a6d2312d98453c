-- Teams of members.

-- +goose Up

-- The members of a team have its role beside their own. Its resource groups are in
-- resource_group_holder, with kind 64.
CREATE TABLE team (
    org         TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    description TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    limited     BOOLEAN NOT NULL DEFAULT FALSE,
    created_at  BIGINT  NOT NULL,
    CONSTRAINT team_pk PRIMARY KEY (org, id),
    CONSTRAINT team_org_fk FOREIGN KEY (org) REFERENCES org (id) ON DELETE CASCADE
);
CREATE TABLE team_member (
    org    TEXT NOT NULL,
    team   TEXT NOT NULL,
    person TEXT NOT NULL,
    CONSTRAINT team_member_pk PRIMARY KEY (org, team, person),
    CONSTRAINT team_member_team_fk FOREIGN KEY (org, team) REFERENCES team (org, id) ON DELETE CASCADE,
    CONSTRAINT team_member_member_fk FOREIGN KEY (org, person) REFERENCES member (org, person) ON DELETE CASCADE
);
CREATE INDEX team_member_by_person ON team_member (org, person, team);

-- The teams that whoever accepts comes into, with spaces between them.
ALTER TABLE invitation ADD COLUMN teams TEXT NOT NULL DEFAULT '';
