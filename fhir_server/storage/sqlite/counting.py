"""Counting the postings of a key between dates: they lie in the order of the clinical date, so most need no look of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.storage.sqlite.entries import NO_DATE
from fhir_server.storage.sqlite.node_postings import Postings
from fhir_server.storage.sqlite.node_ranges import Ranges, Stretch, common
from fhir_server.storage.sqlite.nodes import Node, Sql

SUPERSEDED = 2000
"""Most superseded versions whose postings are counted and taken away."""
PER_ROW = 8
"""How many postings are counted in the time in which one row is tested."""


def edges(sure: Stretch) -> list[Sql]:
    """Dated postings `d` outside of it."""
    before = [Sql("d.sort > ? AND d.sort < ?", (NO_DATE, sure.first))] if sure.first > NO_DATE + 1 else []
    return [*before, Sql("d.sort > ?", (sure.last,))] if sure.last is not None else before


def sure_dates(best: Node, probes: Sequence[Node], clinical: int | None) -> Stretch | None:
    """Where a posting of the one leading key surely meets all probes; None where it is not that simple."""
    if not isinstance(best, Postings) or len(best.keys) != 1 or not probes:
        return None
    found = [probe.stretch() if isinstance(probe, Ranges) and probe.parameter == clinical else None for probe in probes]
    if None in found:
        return None
    whole = common(sure for sure in found if sure is not None)
    return whole if whole.last is None or whole.first <= whole.last else None


def sure_count(rows: Callable[[Sql], list[Any]], best: Postings, sure: Stretch) -> int | None:
    """How many live postings of the key lie there; None where too many versions are superseded. `rows` runs a SELECT."""
    most = min(SUPERSEDED, best.n // PER_ROW)
    if rows(Sql("SELECT count(*) FROM (SELECT 1 FROM superseded LIMIT ?)", (most + 1,)))[0][0] > most:
        return None
    inside = sure.holds("d.sort")
    where, args = f"d.key = ? AND {inside.text}", (best.keys[0], *inside.args)
    postings = f"SELECT count(*) FROM posting d WHERE {where}"
    past = (
        "SELECT count(*) FROM superseded x CROSS JOIN version v ON v.rid = x.rid "
        f"CROSS JOIN posting d ON d.sort = v.clinical AND d.rid = v.rid WHERE {where}"
    )
    return int(rows(Sql(f"SELECT ({postings}) - ({past})", (*args, *args)))[0][0])
