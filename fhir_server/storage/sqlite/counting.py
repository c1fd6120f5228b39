"""Counting the postings of a key between dates: they lie in the order of the clinical date, so most need no look of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fhir_server.storage.sqlite.entries import NO_DATE
from fhir_server.storage.sqlite.node_postings import Postings
from fhir_server.storage.sqlite.node_ranges import Ranges
from fhir_server.storage.sqlite.nodes import Node, Sql

SUPERSEDED = 2000
"""Most superseded versions whose postings are counted and taken away."""
PER_ROW = 8
"""How many postings are counted in the time in which one row is tested."""


class Stretch(NamedTuple):
    """Sort values from `first` to `last`, both among them; `last` None is without end."""

    first: int
    last: int | None

    def edges(self) -> list[Sql]:
        """Dated postings `d` outside."""
        before = [Sql("d.sort > ? AND d.sort < ?", (NO_DATE, self.first))] if self.first > NO_DATE + 1 else []
        return [*before, Sql("d.sort > ?", (self.last,))] if self.last is not None else before


def sure_dates(best: Node, probes: Sequence[Node], clinical: int | None) -> Stretch | None:
    """Where a posting of the one leading key surely meets all probes; None where it is not that simple."""
    if not isinstance(best, Postings) or len(best.keys) != 1 or not probes:
        return None
    found = Stretch(NO_DATE + 1, None)
    for probe in probes:
        sure = probe.stretch() if isinstance(probe, Ranges) and probe.parameter == clinical else None
        if sure is None:
            return None
        lasts = [last for last in (found.last, sure[1]) if last is not None]
        found = Stretch(max(found.first, sure[0]), min(lasts) if lasts else None)
    return found if found.last is None or found.first <= found.last else None


def sure_count(rows: Callable[[Sql], list[Any]], best: Postings, sure: Stretch) -> int | None:
    """How many live postings of the key lie there; None where too many versions are superseded. `rows` runs a SELECT."""
    most = min(SUPERSEDED, best.n // PER_ROW)
    if rows(Sql("SELECT count(*) FROM (SELECT 1 FROM superseded LIMIT ?)", (most + 1,)))[0][0] > most:
        return None
    where = "d.key = ? AND d.sort >= ?" + (" AND d.sort <= ?" if sure.last is not None else "")
    args = (best.keys[0], sure.first, *((sure.last,) if sure.last is not None else ()))
    postings = f"SELECT count(*) FROM posting d WHERE {where}"
    past = (
        "SELECT count(*) FROM superseded x CROSS JOIN version v ON v.rid = x.rid "
        f"CROSS JOIN posting d ON d.sort = v.clinical AND d.rid = v.rid WHERE {where}"
    )
    return int(rows(Sql(f"SELECT ({postings}) - ({past})", (*args, *args)))[0][0])
