"""From the query algebra to nodes that know their size in this database.

Decision: docs/decisions/0043-planner.md
"""

from __future__ import annotations

from collections.abc import Iterable

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
from fhir_server.storage.sqlite.algebra import flattened, key_values, range_alternatives, storable
from fhir_server.storage.sqlite.joins import Chained, Composite, Referred
from fhir_server.storage.sqlite.keys import UNCOUNTED
from fhir_server.storage.sqlite.lookups import Lookups
from fhir_server.storage.sqlite.node_inside import Inside, InsideNode
from fhir_server.storage.sqlite.node_postings import Beginnings, Texts
from fhir_server.storage.sqlite.node_ranges import Nearby
from fhir_server.storage.sqlite.node_words import Wordings
from fhir_server.storage.sqlite.nodes import All, Any_, Everybody, Nobody, Node, Sql, WithIds, Without
from fhir_server.storage.sqlite.selects import PatientCode, Selects

SMALL_CHAIN = 64
"""Up to so many first-stage hits a chain is replaced by the keys of these resources, so that they can lead or combine."""
MOST_BEGINNINGS = 60
"""Most texts that one node looks for."""
COMPOSITES = 64
"""Most combinations of patients and codes that are looked up as patient-code keys."""


class Planner(Lookups):
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
            case Inside():
                return self._inside(criterion)
        raise TypeError(f"unknown criterion {criterion.__class__.__name__}")

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
        flat = list(dict.fromkeys(flattened(Or, [self._shortened(part) for part in flat if not self._is_elsewhere(part)])))
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
        found: list[Criterion] = self._insides(criterion)
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

    def _insides(self, chain: Chain) -> list[Criterion]:
        """The same chain into contained resources, of the types to which references of that kind are there."""
        asked = (Inside(chain.parameter, target, inner) for target, inner in chain.targets)
        return [one for one in asked if self.keys.find(self.db, one.parameter, one.target, "")]

    def _inside(self, question: Inside) -> Node:
        term = self.keys.find(self.db, question.parameter, question.target, "")
        if term is None:
            return Nobody()
        n = self._sampled(term.key) if term.n == UNCOUNTED else term.n
        return InsideNode(question, self.knowledge.insides.number(question), term.key, n)

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
        known = self.knowledge.patient_code.get(has.type)
        composite = None
        if known is not None and self.type == "Patient" and has.parameter == known.subject:
            composite = self._has_composite(source, has.part, known)
        referred = Referred(has.parameter, source, lambda: source.node(has.part), composite)
        return Nobody() if composite is None and isinstance(referred.inner, Nobody) else referred

    def _has_composite(self, source: Planner, part: Criterion, known: PatientCode) -> Composite | None:
        parts = list(flattened(And, [part]))
        for at, criterion in enumerate(parts):
            values = key_values(criterion, known.code, None)
            if values and len(values) == 1:
                rest = source.node(And(tuple(parts[:at] + parts[at + 1 :])))
                return Composite(known.both, f"{values[0][0]}|{values[0][1]}", rest)
        return None


def _is_beginning(part: Criterion) -> bool:
    return part.__class__ is TextMatch and part.mode == "prefix" and storable(part.text)  # type: ignore[attr-defined]
