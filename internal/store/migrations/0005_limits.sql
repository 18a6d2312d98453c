-- What an organisation and its device types may use.

-- +goose Up

-- A JSON object of what is set, by the names of limits; empty: nothing.
ALTER TABLE org ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE device_type ADD COLUMN limits TEXT NOT NULL DEFAULT '';
