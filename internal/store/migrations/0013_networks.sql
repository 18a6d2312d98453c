-- From where clients may connect, and with what.

-- +goose Up

-- JSON: what is allowed or denied, by address and country; empty: everything is allowed.
ALTER TABLE org ADD COLUMN network TEXT NOT NULL DEFAULT '';

-- What devices and gateways must present: "token", "certificate", "both" or
-- "either"; of a type, empty: as the organisation says.
ALTER TABLE org ADD COLUMN connection_policy TEXT NOT NULL DEFAULT 'either';
ALTER TABLE device_type ADD COLUMN connection_policy TEXT NOT NULL DEFAULT '';
