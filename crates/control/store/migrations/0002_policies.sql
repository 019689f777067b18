-- Every policy that was ever applied, as it was written. The one with the highest number is in force; with none, `observe`.
CREATE TABLE policies (
    number     INTEGER NOT NULL PRIMARY KEY, -- from 1
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the source
    source     TEXT    NOT NULL,
    applied_at INTEGER NOT NULL,
    applied_by TEXT    NOT NULL
) STRICT;
