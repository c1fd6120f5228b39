"""From criteria about keys, ranges and composites to nodes: what the index holds of them is looked up here.

Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.search.composites import Place, parted
from fhir_server.search.composites import joined as joined_token
from fhir_server.search.query import Criterion, KeyMatch, KeyPrefix, KeySet, Paired
from fhir_server.search.units import UCUM, in_unit, same_kind
from fhir_server.storage.sqlite.algebra import range_alternatives, storable
from fhir_server.storage.sqlite.entries import SEPARATOR, SPAN_SHIFT
from fhir_server.storage.sqlite.keys import UNCOUNTED, Term, parameter_bounds
from fhir_server.storage.sqlite.node_postings import TOP, PostingRange, Postings, Texts
from fhir_server.storage.sqlite.node_ranges import Alternatives, AnyRange, RangeKey, Ranges
from fhir_server.storage.sqlite.nodes import EVERY, SAMPLE, All, Any_, Nobody, Node, Rids
from fhir_server.storage.sqlite.selects import Selects
from fhir_server.storage.sqlite.versions import first_rid, last_version

SMALL_SET = 64
"""Up to so many keys of a set the postings of uncounted ones are sampled."""
LOOKED_UP = 300
"""Most codes of a set that are looked up one by one."""


class Lookups(Selects):
    """Nodes of single criteria over one resource type."""

    def _terms(self, match: KeyMatch) -> list[Term]:
        known = self._statement.terms.get(match)
        if known is None:
            assert match.value is not None
            if match.space is None:
                known = self.keys.find_any_space(self.db, match.parameter, match.value)
            else:
                found = self.keys.find(self.db, match.parameter, match.space, match.value)
                known = [found] if found else []
            # The planners of a search over many types ask for the same ones.
            self._statement.terms[match] = known
        return known

    def _postings(self, matches: Sequence[KeyMatch]) -> Node | None:
        """One node for key criteria with a value; None when one of them has none."""
        if any(match.value is None for match in matches):
            return None
        terms = {term.key: term.n for match in matches for term in self._terms(match)}
        if not terms:
            return Nobody()
        exact = UNCOUNTED not in terms.values()
        return Postings(tuple(terms), sum(n if n != UNCOUNTED else self._sampled(key) for key, n in terms.items()), exact=exact)

    def _key_set(self, wanted: KeySet) -> Node:
        """Each code is looked up, or, where they are many, the terms that are there are compared with them."""
        terms: dict[int, int] = {}
        if len(wanted.codes) <= LOOKED_UP:
            found = [self.keys.find(self.db, wanted.parameter, space, value) for space, value in wanted.codes if storable(space + value)]
            terms = {term.key: term.n for term in found if term}
        else:
            for space in {space for space, _ in wanted.codes}:
                there = self.keys.find_prefixed(self.db, wanted.parameter, space) if storable(space) else ()
                terms.update({term.key: term.n for term in there if (space, term.value) in wanted.codes})
        for space, excluded in wanted.systems:
            there = self.keys.find_prefixed(self.db, wanted.parameter, space) if storable(space) else ()
            terms.update({term.key: term.n for term in there if term.value not in excluded})
        return self._postings_of(terms)

    def _key_prefix(self, wanted: KeyPrefix) -> Node:
        if not storable(wanted.space + wanted.stem):
            return Nobody()
        low, high = self.keys.space_bounds(wanted.parameter, wanted.space)
        stems = [wanted.stem + end for end in wanted.breaks] or [wanted.stem]
        either = " OR ".join(["value = ?", *(["value >= ? AND value < ?"] * len(stems))])
        args = [wanted.stem, *(bound for stem in stems for bound in (stem, stem + TOP))]
        text = f"SELECT key, n FROM term WHERE key BETWEEN ? AND ? AND space = ? AND ({either})"
        return self._postings_of(dict(self.db.execute(text, (low, high, wanted.space, *args)).fetchall()))

    def _postings_of(self, terms: dict[int, int]) -> Node:
        """`terms`: key -> number of resources, or UNCOUNTED."""
        if not terms:
            return Nobody()
        total = sum(self._sampled(key) if n == UNCOUNTED and len(terms) <= SMALL_SET else max(1, n) for key, n in terms.items())
        return Postings(tuple(terms), total)

    def _sampled(self, key: int) -> int:
        """About how many postings a key has that is not counted."""
        for limit in (SAMPLE, 20 * SAMPLE):
            count = self.db.execute("SELECT count(*) FROM (SELECT 1 FROM posting WHERE key = ? LIMIT ?)", (key, limit)).fetchone()[0]
            if count < limit:
                return count
        return max(count, self.type_term.n // 10)

    def _space(self, match: KeyMatch) -> Node:
        assert match.space is not None
        if not storable(match.space):
            return Nobody()
        low, high = self.keys.space_bounds(match.parameter, match.space)
        return PostingRange(low, high, match.space, self._sum(low, high))

    def _sum(self, low: int, high: int) -> int:
        rows = self.db.execute("SELECT n FROM term WHERE key BETWEEN ? AND ? LIMIT ?", (low, high, SAMPLE)).fetchall()
        total = sum(max(1, row[0]) for row in rows)
        return total if len(rows) < SAMPLE and not any(row[0] == UNCOUNTED for row in rows) else max(total, self.type_term.n // 2)

    def _updated(self, low: int | None, high: int | None) -> Node:
        first = 0 if low is None else first_rid(self.db, low)
        last = EVERY if high is None else first_rid(self.db, high + 1) - 1
        node = Rids(first, last)
        node.n = node.cost = max(0, min(self.type_term.n, min(last, last_version(self.db)) - first + 1))
        return node

    def _present(self, parameter: int) -> Node:
        parts: list[Node] = []
        low, high = parameter_bounds(parameter)
        one = self.db.execute
        if one("SELECT 1 FROM posting WHERE key BETWEEN ? AND ? LIMIT 1", (low, high)).fetchone():
            parts.append(PostingRange(low, high, None, self._sum(low, high)))
        if one("SELECT 1 FROM text WHERE parameter = ? LIMIT 1", (parameter,)).fetchone():
            parts.append(Texts(self, parameter, "", "", "prefix"))
        small = parameter << SPAN_SHIFT
        if one("SELECT 1 FROM term WHERE key BETWEEN ? AND ? LIMIT 1", (small, small | 7)).fetchone() or (
            not parts and one("SELECT 1 FROM term WHERE key BETWEEN ? AND ? LIMIT 1", (low, high)).fetchone()
        ):
            parts.append(AnyRange(parameter, self.type_term.n, self.type_term.n))
        return Any_(tuple(parts)) if parts else Nobody()

    # --- ranges
    def _ranges(self, tests: Sequence[Alternatives]) -> list[Node]:
        """Nodes that together ask for a value that meets each of the tests, which concern one parameter and unit."""
        first = tests[0][0]
        if first.space != UCUM or first.value is None:
            return [Ranges(self, tuple(tests))]
        units = self._units(first.parameter, first.value)
        if len(units) == 1:
            # All tests on one node, where they bound each other.
            (unit, keys) = units[0]
            all_converted = [_in_unit(test, unit) for test in tests]
            return [Nobody()] if None in all_converted else [Ranges(self, tuple(one for one in all_converted if one), keys)]
        found: list[Node] = []
        for test in tests:
            choices = [Ranges(self, (converted,), keys) for unit, keys in units if (converted := _in_unit(test, unit))]
            found.append(choices[0] if len(choices) == 1 else Any_(tuple(choices)) if choices else Nobody())
        return found

    def _units(self, parameter: int, code: str) -> list[tuple[str, tuple[RangeKey, ...]]]:
        """The UCUM codes in which values of a parameter are kept that compare with `code`, with the keys of each."""
        units: dict[str, list[RangeKey]] = {}
        for term in self.keys.find_prefixed(self.db, parameter):
            unit, _, span = term.value.partition(SEPARATOR)
            if span and term.space == UCUM and same_kind(code, unit):
                units.setdefault(unit, []).append(RangeKey(term.key, int(span), term.n))
        return [(unit, tuple(keys)) for unit, keys in units.items()] or [(code, ())]

    # --- composites
    def _paired(self, pair: Paired) -> Node:
        """What the elements with the token have at the same place, by the terms that are there."""
        exact = None if pair.space is None or pair.value is None else joined_token(pair.space, pair.value)
        elements: dict[tuple[str, int], list[list[tuple[Place, int, Term]]]] = {}
        for term in self.keys.find_prefixed(self.db, pair.parameter, exact):
            space, value = parted(term.space)
            if pair.space not in (None, space) or pair.value not in (None, value):
                continue
            text, _, span = term.value.partition(SEPARATOR)
            place = Place.of(text)
            components = elements.setdefault((term.space, place.slot), [[] for _ in pair.others])
            components[place.at].append((place, int(span) if span else -1, term))
        choices: list[Node] = []
        for components in elements.values():
            nodes = [self._component(other, there) for other, there in zip(pair.others, components, strict=True)]
            if not any(isinstance(node, Nobody) for node in nodes):
                choices.append(nodes[0] if len(nodes) == 1 else All(self, tuple(nodes)))
        return choices[0] if len(choices) == 1 else Any_(tuple(choices)) if choices else Nobody()

    def _component(self, wanted: Criterion, there: Sequence[tuple[Place, int, Term]]) -> Node:
        """A component's criterion over the terms that its element has."""
        if isinstance(wanted, KeyMatch):
            found = [
                term for place, span, term in there
                if span < 0 and wanted.space in (None, place.space) and wanted.value in (None, place.value)
            ]  # fmt: skip
            return Postings(tuple(term.key for term in found), sum(term.n for term in found)) if found else Nobody()
        alternatives = range_alternatives(wanted)
        if alternatives is None:
            raise TypeError(f"{wanted.__class__.__name__} is no component of a composite")
        units: dict[tuple[str, str], list[RangeKey]] = {}
        for place, span, term in there:
            if span >= 0:
                units.setdefault((place.space, place.value), []).append(RangeKey(term.key, span, term.n))
        nodes: list[Node] = []
        for (space, value), keys in units.items():
            test = alternatives
            first = test[0]
            if space == UCUM == first.space and first.value is not None:
                converted = _in_unit(test, value)
                if converted is None:
                    continue
                test = converted
            elif first.space not in (None, space) or first.value not in (None, value):
                continue
            nodes.append(Ranges(self, (test,), tuple(keys)))
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes)) if nodes else Nobody()


def _in_unit(alternatives: Alternatives, code: str) -> Alternatives | None:
    """The alternatives in another unit, None where none of them makes sense there."""
    found = tuple(one for match in alternatives if (one := in_unit(match, code)))
    return found or None
