-- Which process has the database: whoever takes it adds one, and every
-- transaction of those before finds that it is not theirs any more.

-- +goose Up
CREATE TABLE store_holder (
    id    BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    CONSTRAINT store_holder_pk PRIMARY KEY (id),
    CONSTRAINT store_holder_single CHECK (id = 1)
);
INSERT INTO store_holder (id, epoch) VALUES (1, 0);
