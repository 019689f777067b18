-- Public keys that prove principals over SSH.
CREATE TABLE ssh_keys (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    principal  BLOB    NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    key        BLOB    NOT NULL UNIQUE, -- wire form; one key proves one principal
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX ssh_keys_principal ON ssh_keys (principal);
