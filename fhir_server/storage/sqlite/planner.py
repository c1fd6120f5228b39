"""From the query algebra to nodes that know their size in this database.

Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_server.search.composites import Place, parted
from fhir_server.search.composites import joined as joined_token
from fhir_server.search.query import (
    And,
    Chain,
    Criterion,
    Everything,
    Has,
    Ids,
    KeyMatch,
    KeyPrefix,
    KeySet,
    Near,
    Not,
    Nothing,
    OfType,
    Or,
    Paired,
    Present,
    RangeMatch,
    TextMatch,
    Updated,
    Worded,
)
from fhir_server.search.units import UCUM, in_unit, same_kind
from fhir_server.storage.sqlite.algebra import flattened, key_values, range_alternatives, storable
from fhir_server.storage.sqlite.entries import SEPARATOR, SPAN_SHIFT
from fhir_server.storage.sqlite.joins import REFS_COST, Chained, Referred
from fhir_server.storage.sqlite.keys import UNCOUNTED, Term, parameter_bounds
from fhir_server.storage.sqlite.node_postings import TOP, Beginnings, PostingRange, Postings, Texts
from fhir_server.storage.sqlite.node_ranges import Alternatives, AnyRange, Nearby, RangeKey, Ranges
from fhir_server.storage.sqlite.node_words import Wordings
from fhir_server.storage.sqlite.nodes import EVERY, SAMPLE, All, Any_, Everybody, Nobody, Node, Rids, Sql, WithIds, Without
from fhir_server.storage.sqlite.selects import PatientCode, Selects
from fhir_server.storage.sqlite.versions import first_rid, last_version

SMALL_CHAIN = 64
"""Up to so many first-stage hits a chain is replaced by the keys of these resources, so that they can lead or combine."""
LOOKED_UP = 300
"""Most codes of a set that are looked up one by one."""
MOST_BEGINNINGS = 60
"""Most texts that one node looks for."""
COMPOSITES = 64
"""Most combinations of patients and codes that are looked up as patient-code keys."""


class Planner(Selects):
    """Plans criteria over one resource type against one connection and snapshot."""

    def other(self, type: str) -> Planner:
        """A planner for another type of the same query."""
        return Planner(self.db, self.keys, self.knowledge, type, self.snapshot, self._statement, self.depth + 1)

    # --- criteria to nodes
    def node(self, criterion: Criterion) -> Node:
        """The node of a criterion. Raises TypeError for a criterion that this store does not know."""
        match criterion:
            case Everything():
                return Everybody(self)
            case Nothing():
                return Nobody()
            case And(parts):
                return self._all(parts)
            case Or(parts):
                return self._any(parts)
            case Not(part):
                return Without(self, self.node(part))
            case KeyMatch():
                return self._postings([criterion]) or self._space(criterion)
            case KeySet():
                return self._key_set(criterion)
            case KeyPrefix():
                return self._key_prefix(criterion)
            case TextMatch(parameter, text, mode):
                if not storable(text):
                    return Nobody()
                return Texts(self, parameter, text, self.knowledge.fold(text) if mode == "exact" else text, mode)
            case RangeMatch():
                return self._ranges([(criterion,)])[0]
            case OfType(type):
                return Everybody(self) if type == self.type else Nobody()
            case Ids(ids):
                return WithIds(tuple(filter(storable, dict.fromkeys(ids))))
            case Worded():
                return Wordings(self, criterion)
            case Near():
                return Nearby(self, criterion)
            case Paired():
                return self._paired(criterion)
            case Present(parameter):
                return self._present(parameter)
            case Updated(low, high):
                return self._updated(low, high)
            case Chain():
                shortened = self._shortened(criterion)
                return self._chain(shortened) if isinstance(shortened, Chain) else self.node(shortened)
            case Has():
                return self._has(criterion)
        raise TypeError(f"unknown criterion {criterion.__class__.__name__}")

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
        total = sum(self._sampled(key) if n == UNCOUNTED and len(terms) <= SMALL_CHAIN else max(1, n) for key, n in terms.items())
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

    # --- and, or
    def _all(self, parts: Iterable[Criterion]) -> Node:
        flat = list(flattened(And, parts))
        if any(isinstance(part, OfType) and part.type != self.type for part in flat):
            return Nobody()
        flat = self._patient_code([self._shortened(part) for part in flat])
        groups: dict[tuple[int, str | None, str | None], list[tuple[RangeMatch, ...]]] = {}
        nodes: list[Node] = []
        for part in flat:
            alternatives = range_alternatives(part)
            if alternatives:
                first = alternatives[0]
                groups.setdefault((first.parameter, first.space, first.value), []).append(alternatives)
            else:
                nodes.append(self._bound(part))
        for tests in groups.values():
            nodes.extend(self._ranges(tests))
        if any(isinstance(node, Nobody) for node in nodes):
            return Nobody()
        nodes = [node for node in nodes if not isinstance(node, Everybody)]
        if not nodes:
            return Everybody(self)
        return nodes[0] if len(nodes) == 1 else All(self, tuple(nodes))

    def _any(self, parts: Iterable[Criterion]) -> Node:
        flat = list(flattened(Or, parts))
        if 1 < len(flat) <= MOST_BEGINNINGS and all(
            part.__class__ is TextMatch and part.mode == "prefix" and storable(part.text) for part in flat
        ):  # type: ignore[attr-defined]
            return Beginnings(self, [(part.parameter, part.text) for part in flat])  # type: ignore[attr-defined]
        flat = list(flattened(Or, [self._shortened(part) for part in flat if not self._is_elsewhere(part)]))
        whole = range_alternatives(Or(tuple(flat)))
        if whole:
            return self._ranges([whole])[0]
        matches = [part for part in flat if isinstance(part, KeyMatch) and part.value is not None]
        nodes = [self._bound(part) for part in flat if not (isinstance(part, KeyMatch) and part.value is not None)]
        if matches:
            found = self._postings(matches)
            assert found is not None
            nodes.append(found)
        nodes = [node for node in nodes if not isinstance(node, Nobody)]
        if not nodes:
            return Nobody()
        if any(isinstance(node, Everybody) for node in nodes):
            return Everybody(self)
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes))

    def _is_elsewhere(self, part: Criterion) -> bool:
        """Whether it begins by asking for another type (compartments, `_contained`)."""
        first = part.parts[0] if isinstance(part, And) and part.parts else part
        return isinstance(first, OfType) and first.type != self.type

    def _patient_code(self, parts: list[Criterion]) -> list[Criterion]:
        """Patient and code of one type together are one key."""
        known = self.knowledge.patient_code.get(self.type)
        if known is None:
            return parts
        patients = next(((at, found) for at, part in enumerate(parts) if (found := key_values(part, known.subject, "Patient"))), None)
        codes = next(((at, found) for at, part in enumerate(parts) if (found := key_values(part, known.code, None))), None)
        if patients is None or codes is None or len(patients[1]) * len(codes[1]) > COMPOSITES:
            return parts
        both = tuple(KeyMatch(known.both, id, f"{system}|{code}") for _, id in patients[1] for system, code in codes[1])
        rest = [part for at, part in enumerate(parts) if at not in (patients[0], codes[0])]
        return [both[0] if len(both) == 1 else Or(both), *rest]

    # --- chains
    def _shortened(self, criterion: Criterion) -> Criterion:
        """A chain with few first-stage hits becomes the keys of these resources."""
        if not isinstance(criterion, Chain):
            return criterion
        rest: list[tuple[str, Criterion]] = []
        found: list[Criterion] = []
        for target, inner in criterion.targets:
            planner, node = self._of_target(target, inner)
            if node.n > SMALL_CHAIN or node.cost > 20 * SMALL_CHAIN:
                rest.append((target, inner))
                continue
            rids = planner.select_rids(node)
            hits = self.finished(Sql(f"SELECT w.id FROM ({rids.text}) i CROSS JOIN version w ON w.rid = i.rid", rids.args))
            ids = self.db.execute(*hits).fetchall()
            found.extend(KeyMatch(criterion.parameter, target, id) for (id,) in ids)
        if rest:
            found.append(Chain(criterion.parameter, tuple(rest)))
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _of_target(self, target: str, inner: Criterion) -> tuple[Selects, Node]:
        """The node of a chain's target, planned once however long the chain is."""
        at = (self.depth, target, inner)
        found = self._statement.targets.get(at)
        if found is None:
            planner = self.other(target)
            found = self._statement.targets[at] = (planner, planner.node(inner))
        return found

    def _bound(self, criterion: Criterion) -> Node:
        """The node of a criterion that was shortened before."""
        return self._chain(criterion) if isinstance(criterion, Chain) else self.node(criterion)

    def _chain(self, chain: Chain) -> Node:
        nodes: list[Node] = []
        for target, inner in chain.targets:
            planner, node = self._of_target(target, inner)
            if isinstance(node, Nobody):
                continue
            share = min(1.0, node.n / max(1, planner.type_term.n))
            size = int(self.type_term.n * share)
            nodes.append(Chained(chain.parameter, planner, node, size, node.cost + node.n * 3 + size))
        if not nodes:
            return Nobody()
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes))

    def _has(self, has: Has) -> Node:
        source = self.other(has.type)
        inner = source.node(has.part)
        if isinstance(inner, Nobody):
            return inner
        size = min(inner.n, self.type_term.n)
        composite = None
        known = self.knowledge.patient_code.get(has.type)
        if known is not None and self.type == "Patient" and has.parameter == known.subject:
            composite = self._has_composite(source, has.part, known)
        return Referred(has.parameter, source, inner, composite, size, inner.cost + inner.n * REFS_COST)

    def _has_composite(self, source: Planner, part: Criterion, known: PatientCode) -> tuple[int, str, Node] | None:
        parts = list(flattened(And, [part]))
        for at, criterion in enumerate(parts):
            values = key_values(criterion, known.code, None)
            if values and len(values) == 1:
                rest = source.node(And(tuple(parts[:at] + parts[at + 1 :])))
                return known.both, f"{values[0][0]}|{values[0][1]}", rest
        return None


def _in_unit(alternatives: Alternatives, code: str) -> Alternatives | None:
    """The alternatives in another unit, None where none of them makes sense there."""
    found = tuple(one for match in alternatives if (one := in_unit(match, code)))
    return found or None
