-- One row: what the whole database has in common.
CREATE TABLE installation (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL, -- grows with every transaction that changed something
    key_id   BLOB    NOT NULL  -- names the node key that values are sealed under
) STRICT;

CREATE TABLE targets (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL UNIQUE,
    kind       TEXT    NOT NULL,
    url        TEXT    NOT NULL, -- without secrets
    created_at INTEGER NOT NULL  -- µs since 1970, as all times here
) STRICT, WITHOUT ROWID;

CREATE TABLE target_labels (
    target BLOB NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (target, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE target_privileges (
    target    BLOB NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    privilege TEXT NOT NULL,
    PRIMARY KEY (target, privilege)
) STRICT, WITHOUT ROWID;

-- Either sealed here, or in an environment variable of the gateway.
CREATE TABLE target_secrets (
    target   BLOB NOT NULL REFERENCES targets (id) ON DELETE CASCADE,
    field    TEXT NOT NULL,
    sealed   BLOB,
    variable TEXT,
    PRIMARY KEY (target, field),
    CHECK ((sealed IS NULL) <> (variable IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind         TEXT    NOT NULL CHECK (kind IN ('agent', 'person', 'service')),
    name         TEXT    NOT NULL UNIQUE, -- across kinds: it is what one logs in as
    on_behalf_of BLOB    REFERENCES principals (id) ON DELETE RESTRICT,
    salt         BLOB    NOT NULL CHECK (length(salt) = 16), -- of all its credentials
    disabled     INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX principals_on_behalf_of ON principals (on_behalf_of) WHERE on_behalf_of IS NOT NULL;

CREATE TABLE principal_groups (
    principal BLOB NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    PRIMARY KEY (principal, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE principal_roles (
    principal BLOB NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    role      TEXT NOT NULL CHECK (role IN ('administrator', 'auditor', 'reviewer')),
    PRIMARY KEY (principal, role)
) STRICT, WITHOUT ROWID;

-- Verifiers only: none of these columns lets anybody log in.
CREATE TABLE credentials (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    principal    BLOB    NOT NULL REFERENCES principals (id) ON DELETE CASCADE,
    iterations   INTEGER NOT NULL CHECK (iterations > 0),
    stored_key   BLOB    NOT NULL CHECK (length(stored_key) = 32),
    server_key   BLOB    NOT NULL CHECK (length(server_key) = 32),
    token_digest BLOB    NOT NULL CHECK (length(token_digest) = 32),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX credentials_principal ON credentials (principal);
