-- Organisations with the home profile: what they choose, and the role of a user.

-- +goose Up
ALTER TABLE org ADD COLUMN home_anonymous BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE org ADD COLUMN home_prefix BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE org ADD COLUMN home_v0 BOOLEAN NOT NULL DEFAULT FALSE;

-- "actor", "provider" or "bridge"; empty: the user is not of a home.
ALTER TABLE mqtt_user ADD COLUMN role TEXT NOT NULL DEFAULT '';
