-- MQTT users who keep the password that they have elsewhere.

-- +goose Up

-- A sealed hash of that password, in the format of whoever made it; NULL: there is
-- none, and token_hash is of what the user has. It goes at the first good connect.
ALTER TABLE mqtt_user ADD COLUMN imported BYTEA;
CREATE INDEX mqtt_user_imported ON mqtt_user (org, name) WHERE imported IS NOT NULL;
