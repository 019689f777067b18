-- One question to people each. What it is about is sealed, as payloads of the trail are.
CREATE TABLE reviews (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    session    BLOB    NOT NULL CHECK (length(session) = 16),
    state      TEXT    NOT NULL,
    held       INTEGER NOT NULL CHECK (held IN (0, 1)), -- whether a client waits for it on the wire
    sealed     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- Messages about reviews that are still to be delivered, or could not be. What was delivered is deleted.
CREATE TABLE deliveries (
    id         INTEGER NOT NULL PRIMARY KEY,
    review     BLOB    NOT NULL REFERENCES reviews (id) ON DELETE CASCADE,
    webhook    TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    INTEGER, -- NULL: given up
    problem    TEXT
) STRICT;

CREATE INDEX deliveries_next_at ON deliveries (next_at) WHERE next_at IS NOT NULL;
