"""What the sort value of a row tells about its date: never more than the date itself would.

Decision: docs/decisions/0041-ranges-in-span-classes.md
"""

from __future__ import annotations

import random
import sqlite3

import pytest

from fhir_server.search.query import RangeMatch
from fhir_server.storage.sqlite.entries import DATE_SPANS, NO_DATE, OPEN_SPAN, SEVERAL
from fhir_server.storage.sqlite.node_ranges import certain, condition, told

DAY = 86_400_000
SHAPES = ("low_min", "low_max", "high_min", "high_max")


def date_criteria(rnd: random.Random) -> tuple[RangeMatch, ...]:
    """One or two alternatives, each with one or two limits, some strict."""
    found = []
    for _ in range(rnd.choice((1, 1, 2))):
        names = rnd.sample(SHAPES, rnd.choice((1, 2)))
        strict = frozenset(name for name in names if rnd.random() < 0.5)
        limits = {name: rnd.randrange(-40, 40) * DAY // rnd.choice((1, 24, 1440)) for name in names}
        found.append(RangeMatch(1, strict=strict, **limits))
    return tuple(found)


@pytest.mark.parametrize("span", [0, 1, 2, 3, 4, OPEN_SPAN])
def test_a_row_that_is_sure_to_match_has_a_date_that_matches(span: int) -> None:
    db, rnd, surely = sqlite3.connect(":memory:"), random.Random(span), 0
    longest = DATE_SPANS[span] if span < len(DATE_SPANS) else 400 * DATE_SPANS[-1]
    for _ in range(4000):
        alternatives = date_criteria(rnd)
        sure = certain(alternatives, (0, span), "d.sort")
        if sure is None:
            continue
        low = rnd.randrange(-40 * DAY, 40 * DAY) if rnd.random() < 0.9 else alternatives[0].low_max or 0
        high = low + rnd.choice((0, longest, rnd.randrange(longest + 1)))
        truth = condition(alternatives, "r.")
        whole = told(alternatives, (0, span), "d.sort", truth)
        text = f"SELECT {sure.text}, {truth.text}, {whole.text} FROM (SELECT ? AS low, ? AS high) r, (SELECT ? AS sort) d"
        says, holds, either = db.execute(text, (*sure.args, *truth.args, *whole.args, low, high, low)).fetchone()
        assert holds or not says, (alternatives, low, high)
        assert either == holds, (alternatives, low, high)
        surely += says
    assert surely > 400


def test_a_row_without_a_date_is_never_sure() -> None:
    sure = certain((RangeMatch(1, low_max=0),), (0,), "d.sort")
    assert sure is not None
    assert sqlite3.connect(":memory:").execute(f"SELECT {sure.text} FROM (SELECT ? AS sort) d", (*sure.args, NO_DATE)).fetchone() == (0,)


def test_nothing_is_sure_where_resources_have_several_dates() -> None:
    assert certain((RangeMatch(1, low_max=0),), (0, SEVERAL), "d.sort") is None
