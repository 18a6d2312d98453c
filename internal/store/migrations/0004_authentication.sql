-- Enhanced authentication (MQTT 5, 4.12).

-- +goose Up

-- The keys with which SCRAM checks a token, sealed. What was there before has
-- none until its token is replaced.
ALTER TABLE device ADD COLUMN scram BYTEA;
ALTER TABLE application ADD COLUMN scram BYTEA;
ALTER TABLE mqtt_user ADD COLUMN scram BYTEA;
