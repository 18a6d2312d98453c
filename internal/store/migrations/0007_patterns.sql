-- The rules that hold for every user of a plain organisation, and the client
-- identifiers that belong to one of them.

-- +goose Up

-- JSON as in mqtt_user.rules; empty: none.
ALTER TABLE org ADD COLUMN rules TEXT NOT NULL DEFAULT '';

-- What %c may stand for. An identifier belongs to one user at most.
CREATE TABLE mqtt_client (
    org    TEXT NOT NULL,
    client TEXT NOT NULL,
    name   TEXT NOT NULL,
    CONSTRAINT mqtt_client_pk PRIMARY KEY (org, client),
    CONSTRAINT mqtt_client_user_fk FOREIGN KEY (org, name) REFERENCES mqtt_user (org, name) ON DELETE CASCADE
);
CREATE INDEX mqtt_client_by_user ON mqtt_client (org, name, client);
INSERT INTO mqtt_client (org, client, name) SELECT org, name, name FROM mqtt_user;
