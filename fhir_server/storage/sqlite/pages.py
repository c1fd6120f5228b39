"""From the hits of a search to a page of stored resources."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from fhir_server.storage.body import BodyCodec
from fhir_server.storage.port import Page, Position, Stored
from fhir_server.storage.sqlite.nodes import marks
from fhir_server.storage.sqlite.schema import METHODS
from fhir_server.storage.sqlite.searching import Search

COUNTED = 50_000
"""Rows up to which an estimate of the total is the count itself."""


def fetch(db: sqlite3.Connection, codec: BodyCodec, names: Sequence[str], rids: Sequence[int]) -> list[Stored]:
    """The versions of these rids, in their order. `names`: type names by number."""
    if not rids:
        return []
    unpack = codec.unpack
    wanted = marks(rids)
    text = f"SELECT rid, type, id, version, updated, method, body FROM version WHERE rid IN ({wanted.text})"
    rows = db.execute(text, wanted.args).fetchall()
    found = {row[0]: Stored(row[0], names[row[1]], row[2], row[3], row[4], METHODS[row[5]], unpack(row[6])) for row in rows}
    return [found[rid] for rid in rids if rid in found]


def run_page(search: Search, codec: BodyCodec, names: Sequence[str], after: Position | None) -> Page:
    """One page with its continuation and, where free or asked for, the total."""
    query = search.query
    hits = search.hits(after, query.limit + 1) if query.limit else []
    more, hits = len(hits) > query.limit, hits[: query.limit]
    if after is not None:
        total = after.total
    else:
        total = len(hits) if not more and query.limit else search.free_total()
    if total is None and (query.total == "accurate" or (query.total == "estimate" and search.count_cost() <= COUNTED)):
        total = search.count()
    elif total is None and query.total == "estimate":
        total = sum(plan.node.n for plan in search.plans)
    items = fetch(search.db, codec, names, [hit.rid for hit in hits])
    following = Position(search.snapshot, hits[-1].rid, hits[-1].values, total) if more and hits else None
    return Page(items, following, total)


def explained(search: Search) -> dict[str, Any]:
    """Runs the first page and tells how."""
    started = perf_counter()
    hits = search.hits(None, search.query.limit + 1)
    seconds = perf_counter() - started
    types = []
    for plan in search.plans:
        types.append(
            {
                "type": plan.planner.type,
                "leads": plan.best.describe(),
                "probes": [probe.describe() for probe in plan.probes],
                "estimate": plan.node.n,
                "cost": plan.cost,
                "statements": plan.statements,
            }
        )
    return {
        "snapshot": search.snapshot,
        "plan": types,
        "rows": min(len(hits), search.query.limit),
        "milliseconds": round(seconds * 1000, 3),
    }
