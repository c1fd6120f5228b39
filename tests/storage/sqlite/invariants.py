"""What must hold in every `fhir.db` at rest, checked with plain SQL and no code of the store but its index function."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def faults(path: Path) -> list[str]:
    """Broken invariants of the file; empty when all hold."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
        for name, statement in RULES.items():
            rows = db.execute(statement).fetchmany(3)
            if rows:
                found.append(f"{name}: {rows}")
        return found
    finally:
        db.close()


LIVE = "(SELECT r.rid FROM resource r JOIN version v ON v.rid = r.rid WHERE v.method <> 3)"
RULES = {
    "a current version that is not there": "SELECT * FROM resource WHERE rid NOT IN (SELECT rid FROM version)",
    "a version that nothing leads to": "SELECT rid FROM version EXCEPT SELECT rid FROM resource EXCEPT SELECT rid FROM old",
    "a gap in the versions of a resource": (
        "SELECT type, id FROM version GROUP BY type, id HAVING count(*) <> max(version) OR min(version) <> 1"
    ),
    "versions and rids in another order": (
        "SELECT rid FROM (SELECT rid, rid - lag(rid) OVER (PARTITION BY type, id ORDER BY version) AS step FROM version) WHERE step <= 0"
    ),
    "time going back": "SELECT a.rid FROM version a JOIN version b ON b.rid = a.rid + 1 WHERE b.updated < a.updated",
    "a posting of a version that is neither live nor superseded": (
        f"SELECT DISTINCT rid FROM posting WHERE rid NOT IN {LIVE} AND rid NOT IN (SELECT rid FROM superseded)"
    ),
    "a live version without postings": f"SELECT rid FROM {LIVE} WHERE rid NOT IN (SELECT rid FROM posting WHERE sort = 0)",
    "a posting without its term": "SELECT key FROM posting WHERE key NOT IN (SELECT key FROM term)",
    "a text or range of a version without postings": (
        "SELECT rid FROM (SELECT rid FROM text UNION SELECT rid FROM range) WHERE rid NOT IN (SELECT rid FROM posting)"
    ),
    "a wrong count of a key": (
        f"WITH real AS (SELECT key, count(*) AS n FROM posting WHERE rid IN {LIVE} GROUP BY key) "
        "SELECT t.key, t.n, coalesce(real.n, 0) FROM term t LEFT JOIN real ON real.key = t.key "
        "WHERE t.n >= 0 AND t.value NOT LIKE '%' || char(31) || '%' AND t.key NOT BETWEEN 0 AND 131071 AND t.n <> coalesce(real.n, 0)"
    ),
    "a wrong count of a range key": (
        f"WITH real AS (SELECT key, count(DISTINCT rid) AS n FROM range WHERE rid IN {LIVE} GROUP BY key) "
        "SELECT t.key, t.n, coalesce(real.n, 0) FROM term t LEFT JOIN real ON real.key = t.key "
        "WHERE (t.value LIKE '%' || char(31) || '%' OR t.key BETWEEN 0 AND 131071) AND t.n <> coalesce(real.n, 0)"
    ),
    "two terms of one form": (
        "SELECT space, value, (key >> 50) & 16383 AS parameter FROM term WHERE key NOT BETWEEN 0 AND 131071 "
        "GROUP BY space, value, parameter HAVING count(*) > 1"
    ),
    "two heads of one queue": "SELECT kind, key FROM job WHERE state = 0 AND head = 1 GROUP BY kind, key HAVING count(*) > 1",
    "a queue without a head": "SELECT kind, key FROM job WHERE state = 0 GROUP BY kind, key HAVING max(head) = 0",
}
