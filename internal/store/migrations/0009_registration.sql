-- Gateways that make devices known by speaking for them.

-- +goose Up
ALTER TABLE device ADD COLUMN registers BOOLEAN NOT NULL DEFAULT FALSE;
