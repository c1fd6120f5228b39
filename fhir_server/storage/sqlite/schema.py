"""The tables of `fhir.db`; described with worked examples in docs/storage-layout.md."""

from __future__ import annotations

APPLICATION_ID = 0x46484952
"""'FHIR' in the header of the file: tells a store of this product from any other SQLite database."""
SCHEMA_VERSION = 2
"""Raised whenever older code could not read what newer code writes, or would not write what newer code reads."""
OLDEST_VERSION = 1
"""A store of this layout or a later one is brought to the present one when it is opened (`MIGRATIONS`)."""
FILE_NAME = "fhir.db"

METHODS = ("POST", "PUT", "PATCH", "DELETE")
METHOD_NUMBER = {name: number for number, name in enumerate(METHODS)}
DELETED = METHOD_NUMBER["DELETE"]

PARAMETERS = """CREATE TABLE parameter (   -- search parameters that the site defines: one row per type of a SearchParameter
    number INTEGER PRIMARY KEY,         -- never given again
    second INTEGER NOT NULL,            -- whether the next number belongs to it, too
    id TEXT NOT NULL,                   -- of the SearchParameter
    type TEXT NOT NULL, code TEXT NOT NULL, kind TEXT NOT NULL, expression TEXT NOT NULL, targets TEXT NOT NULL, url TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,   -- 0 being filled, 1 served, 2 to be removed, 3 gone
    upto INTEGER NOT NULL,              -- versions after this rid are indexed as they are written; -1 until the defining unit is whole
    last INTEGER NOT NULL DEFAULT 0,    -- versions up to this rid have been visited
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, faults INTEGER NOT NULL DEFAULT 0,
    since INTEGER NOT NULL DEFAULT 0    -- snapshots from here on can be asked
)"""
OPEN_PARAMETERS = "CREATE INDEX parameter_open ON parameter(type, code) WHERE state < 3"
REINDEXING = """CREATE TABLE reindexing (  -- work over the whole index, or all resources of some types; kept as its report
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    types TEXT NOT NULL,                -- JSON; [] = everything, which is emptied first
    upto INTEGER NOT NULL, last INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL, faults INTEGER NOT NULL DEFAULT 0, fault TEXT NOT NULL DEFAULT '',
    began INTEGER NOT NULL, ended INTEGER
)"""
OPEN_REINDEXING = "CREATE INDEX reindexing_open ON reindexing(id) WHERE ended IS NULL"
MIGRATIONS = {
    1: (
        "ALTER TABLE state ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE state ADD COLUMN building INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE state ADD COLUMN origin INTEGER NOT NULL DEFAULT 0",
        PARAMETERS,
        OPEN_PARAMETERS,
        REINDEXING,
        OPEN_REINDEXING,
        # The opening takes up the SearchParameters that were stored without effect, and makes the index anew.
        "DELETE FROM secret WHERE name = 'index'",
    )
}
"""Layout -> statements that lead to the next one."""

INDEX_TABLES = {
    "term": (
        "key",
        "CREATE TABLE term (key INTEGER PRIMARY KEY, n INTEGER NOT NULL, space TEXT NOT NULL, value TEXT NOT NULL)",
    ),
    "posting": (
        "key, sort, rid",
        "CREATE TABLE posting (key INTEGER NOT NULL, sort INTEGER NOT NULL, rid INTEGER NOT NULL, "
        "PRIMARY KEY (key, sort, rid)) WITHOUT ROWID",
    ),
    "text": (
        "parameter, folded, rid",
        "CREATE TABLE text (parameter INTEGER NOT NULL, folded TEXT NOT NULL, rid INTEGER NOT NULL, exact TEXT NOT NULL, "
        "PRIMARY KEY (parameter, folded, rid)) WITHOUT ROWID",
        "CREATE INDEX text_rid{0} ON text(rid)",
    ),
    "range": (
        "key, low, rid, high",
        "CREATE TABLE range (key INTEGER NOT NULL, low NOT NULL, rid INTEGER NOT NULL, high NOT NULL, "
        "PRIMARY KEY (key, low, rid, high)) WITHOUT ROWID",
        "CREATE INDEX range_rid{0} ON range(rid)",
    ),
    "superseded": (
        "rid",
        "CREATE TABLE superseded (rid INTEGER PRIMARY KEY, until INTEGER NOT NULL, at INTEGER NOT NULL)",
        "CREATE INDEX superseded_at{0} ON superseded(at)",
    ),
}
"""What is made from the versions and can be made anew: table -> columns of its key, and statements ({0}: a mark for names of indices)."""
INDEX = ";\n".join(statement.format("") for _, *statements in INDEX_TABLES.values() for statement in statements) + ";"

TABLES = f"""
CREATE TABLE state (                    -- one row
    one INTEGER PRIMARY KEY CHECK (one = 1),
    floor INTEGER NOT NULL DEFAULT 0,   -- no rid up to here is given again, also after an erasure
    epoch INTEGER NOT NULL DEFAULT 0,   -- grows when terms were removed
    reach INTEGER NOT NULL DEFAULT 0,   -- farthest distance of a term from its hash
    probe INTEGER NOT NULL DEFAULT 0,   -- written by the readiness check
    generation INTEGER NOT NULL DEFAULT 0,  -- grows with each change of what is indexed
    building INTEGER NOT NULL DEFAULT 0,    -- 1: some parameters are being filled, 2: the whole index is
    origin INTEGER NOT NULL DEFAULT 0   -- earlier snapshots cannot be searched: the index was made anew since
);
INSERT INTO state(one) VALUES (1);

CREATE TABLE type (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE version (
    rid INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    method INTEGER NOT NULL,
    clinical INTEGER NOT NULL,          -- the sort value of this version's postings
    refs BLOB,                          -- 8-byte keys of its reference postings
    body BLOB NOT NULL
);
CREATE INDEX version_type ON version(type);

CREATE TABLE resource (type INTEGER NOT NULL, id TEXT NOT NULL, rid INTEGER NOT NULL, PRIMARY KEY (type, id)) WITHOUT ROWID;

CREATE TABLE old (                      -- where the versions before the current one are
    type INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, rid INTEGER NOT NULL,
    PRIMARY KEY (type, id, version)
) WITHOUT ROWID;

{INDEX}

CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, key TEXT NOT NULL, due INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,   -- 0 open, 1 done, 2 dead
    head INTEGER NOT NULL,              -- 1: the first open job of its (kind, key)
    attempts INTEGER NOT NULL DEFAULT 0,
    lease TEXT, lease_until INTEGER NOT NULL DEFAULT 0,
    ended INTEGER, error TEXT, payload BLOB NOT NULL
);
CREATE INDEX job_due ON job(kind, due, id) WHERE state = 0 AND head = 1;
CREATE INDEX job_key ON job(kind, key, id) WHERE state = 0;
CREATE INDEX job_ended ON job(ended) WHERE state = 1;
CREATE INDEX job_dead ON job(id) WHERE state = 2;
CREATE TABLE job_unique (kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;

CREATE TABLE record (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL, key TEXT NOT NULL, updated INTEGER NOT NULL, attributes TEXT NOT NULL, data BLOB NOT NULL, raw BLOB,
    UNIQUE (collection, key)
);
CREATE INDEX record_collection ON record(collection);
CREATE TABLE record_attribute (
    collection TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (collection, name, value, seq)
) WITHOUT ROWID;

CREATE TABLE reader (name TEXT PRIMARY KEY, rid INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
{PARAMETERS};
{OPEN_PARAMETERS};
{REINDEXING};
{OPEN_REINDEXING};
"""
