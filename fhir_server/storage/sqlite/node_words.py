"""The node over the table `words` (`full_text`)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from fhir_server.search.query import Worded
from fhir_server.search.words import marker
from fhir_server.storage.sqlite.nodes import SAMPLE, Lead, Node, Row, Sql

if TYPE_CHECKING:
    from fhir_server.storage.sqlite.selects import Selects


def expression(wanted: Worded) -> str:
    """The expression of SQLite's full-text search. Words are letters and digits, so nothing in them can mean anything else."""
    first = (marker(wanted.parameter),) if wanted.parameter else ()
    phrases = [f'"{" ".join((*first, *phrase.words))}"{" *" if phrase.open else ""}' for phrase in wanted.phrases]
    return f"{wanted.place} : ({' AND '.join(phrases)})"


class Wordings(Node):
    """Resources with the words."""

    def __init__(self, planner: Selects, wanted: Worded) -> None:
        self._planner = planner
        self._expression, self._phrases = expression(wanted), len(wanted.phrases)

    @cached_property
    def n(self) -> int:  # type: ignore[override]
        """A count of a sample."""
        sample = f"SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT {SAMPLE})"
        count: int = self._planner.db.execute(sample, (self._expression,)).fetchone()[0]
        return count if count < SAMPLE else max(SAMPLE, self._planner.type_term.n // 10)

    @property
    def cost(self) -> int:  # type: ignore[override]
        return self.n

    def lead(self, planner: Selects) -> Lead | None:
        """Of the versions whose words are kept, those of the type that no sweep has taken out of the index."""
        source = (
            "(SELECT w.rowid AS rid FROM words w WHERE words MATCH ? "
            "AND EXISTS (SELECT 1 FROM posting q WHERE q.key = ? AND q.sort = 0 AND q.rid = w.rowid)) d"
        )
        return Lead(Sql(source, (self._expression, planner.type_term.key)))

    def probe(self, planner: Selects, row: Row) -> Sql:
        return Sql(f"{row.rid} IN (SELECT rowid FROM words WHERE words MATCH ?)", (self._expression,))

    def gathered(self, lead: int) -> int:
        return self.n

    def describe(self) -> str:
        # Not the words themselves: plans of slow searches are logged.
        return f"{self._phrases} word(s) or phrase(s), about {self.n}"
