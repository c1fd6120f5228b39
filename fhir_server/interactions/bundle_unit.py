"""What a transaction decides inside the store's unit: matches, the same resource twice, conditional references, links.

All of it is a pure function of the prepared entries and the store's facts, and may run more than once.
Specification: https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fhir_server.errors import FhirError
from fhir_server.interactions import integrity
from fhir_server.interactions.bundle_entries import Entry, within_entry
from fhir_server.interactions.bundle_links import BundleLinks, settle_patch
from fhir_server.interactions.bundle_match import Fresh
from fhir_server.interactions.context import Context
from fhir_server.interactions.plan import PlannedWrite, Seen
from fhir_server.interactions.preconditions import precondition
from fhir_server.interactions.rewrite import Site, path_of
from fhir_server.search.query import Query
from fhir_server.storage.port import Facts, Stored, Write

Address = tuple[str, str]
"""Type and id."""


@dataclass(slots=True)
class Prepared:
    """A transaction before its unit. `writing`: its write entries in processing order; `plans` by entry index."""

    writing: list[Entry]
    plans: Mapping[int, PlannedWrite]
    links: BundleLinks
    criteria: list[Query] = field(default_factory=list)
    slots: dict[int, int] = field(default_factory=dict)
    """Entry index -> position of its first question in `criteria`."""
    references: dict[str, int] = field(default_factory=dict)
    """Conditional reference -> position of its query in `criteria`."""
    targets: dict[Address, None] = field(default_factory=dict)
    searched: frozenset[str] = frozenset()
    """Types that some criteria ask for: new resources of these types are matched too."""

    def gather(self, reads: Sequence[Address], asked: Callable[[str], bool]) -> None:
        """Put the questions of all plans, conditional references and reads together.

        `asked(type)`: whether somebody is asked before such resources are written, and wants to know what is replaced.
        """
        for entry in self.writing:
            planned = self.plans[entry.index]
            if planned.questions:
                self.slots[entry.index] = len(self.criteria)
                self.criteria += planned.questions
            self.targets.update(dict.fromkeys(planned.targets))
            if planned.id and ("if-match" in entry.request.headers or (planned.interaction != "create" and asked(planned.type))):
                self.targets[planned.type, planned.id] = None
        for text, query in self.links.conditional.items():
            self.references[text] = len(self.criteria)
            self.criteria.append(query)
        self.targets.update(dict.fromkeys(reads))
        own = [self.plans[entry.index].criteria for entry in self.writing]
        queries = [*self.links.conditional.values(), *(query for criteria in own for query in criteria)]
        self.searched = frozenset(type for query in queries for type in query.types)


@dataclass(slots=True)
class Decision:
    """What the unit came to: the writes, and per entry what it saw, which writes are its own, and which resource it is about."""

    writes: list[Write] = field(default_factory=list)
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    seen: dict[int, Seen] = field(default_factory=dict)
    owner: dict[Address, int] = field(default_factory=dict)
    about: dict[int, Address] = field(default_factory=dict)


def decide_all(context: Context, prepared: Prepared, facts: Facts) -> Decision:
    """The decision over all entries. Raises FhirError naming the entry (and both entries where two are about the same resource)."""
    decision = Decision()
    fresh = Fresh(context, prepared.searched)
    for entry in prepared.writing:
        planned = prepared.plans[entry.index]
        seen = _seen(prepared, entry, facts, fresh)
        try:
            if "if-match" in entry.request.headers and planned.id:
                precondition(entry.request).check(planned.type, planned.id, facts.current.get((planned.type, planned.id)))
            writes = planned.decide(seen)
        except FhirError as error:
            raise within_entry(error, entry.index, planned.type) from error
        _claim(decision, entry, writes)
        for write in writes:
            fresh.add(write)
        decision.spans[entry.index] = (len(decision.writes), len(decision.writes) + len(writes))
        decision.seen[entry.index] = seen
        decision.about[entry.index] = (writes[0].type, writes[0].id) if writes else planned.identity(seen)
        decision.writes += writes
    _settle(context, prepared, facts, fresh, decision)
    if context.settings.referential_integrity:
        _check_integrity(context, prepared, facts, decision)
    return decision


def _seen(prepared: Prepared, entry: Entry, facts: Facts, fresh: Fresh) -> Seen:
    """The entry's slice of the facts, as they are after the entries before it."""
    planned = prepared.plans[entry.index]
    start = prepared.slots.get(entry.index)
    if start is None:
        return Seen((), facts.current)
    matches: list[Sequence[Address]] = [*facts.matches[start : start + len(planned.questions)]]
    if planned.criteria:
        matches[0] = fresh.matches(planned.criteria[0], matches[0])
    return Seen(matches, facts.current)


def _claim(decision: Decision, entry: Entry, writes: Sequence[Write]) -> None:
    for write in writes:
        first = decision.owner.setdefault((write.type, write.id), entry.index)
        if first != entry.index:
            raise same_resource(first, entry.index, f"are both about {write.type}/{write.id}", f"都涉及 {write.type}/{write.id}")


def same_resource(first: int, second: int, how: str, zh: str) -> FhirError:
    """400 for a resource that occurs twice; names both entries."""
    names = [f"Bundle.entry[{index}]" for index in sorted((first, second))]
    return FhirError.of(
        400,
        "duplicate",
        f"{names[0]} and {names[1]} {how}; a transaction may hold a resource once",
        *names,
        zh=f"{names[0]} 和 {names[1]} {zh}；同一资源在一个事务中只能出现一次",
    )


def _settle(context: Context, prepared: Prepared, facts: Facts, fresh: Fresh, decision: Decision) -> None:
    """Settle the links that depend on the decision, in the content that is about to be written."""
    links = prepared.links
    patching = [entry for entry in prepared.writing if prepared.plans[entry.index].interaction == "patch"]
    if not links.pending and not patching:
        return
    known = dict(links.fixed)
    for full_url, index in links.floating.items():
        known[full_url] = "/".join(decision.about[index])
    resolved: dict[str, str] = {}
    for index in links.pending:
        start, end = decision.spans[index]
        if start == end:
            continue  # a conditional create that found its match: its content is not written
        resource = decision.writes[start].resource
        assert resource is not None
        for site in links.wanted(index):
            if site.text not in resolved:
                resolved[site.text] = _resolve(prepared, facts, fresh, index, site, resource)
        links.settle(index, resource, known, resolved)
    for entry in patching:
        _settle_patch(prepared, facts, fresh, decision, entry, known, resolved)


def _settle_patch(
    prepared: Prepared, facts: Facts, fresh: Fresh, decision: Decision, entry: Entry, known: Mapping[str, str], resolved: dict[str, str]
) -> None:
    resource = decision.writes[decision.spans[entry.index][0]].resource
    assert resource is not None
    for text in prepared.links.patches.get(entry.index, ()):
        if text not in resolved:
            holder = {"reference": text}
            resolved[text] = _resolve(prepared, facts, fresh, entry.index, Site(holder, "reference", text), resource)
    settle_patch(prepared.links, entry.index, resource, known, resolved)


def _resolve(prepared: Prepared, facts: Facts, fresh: Fresh, index: int, site: Site, resource: dict[str, object]) -> str:
    """The one resource that a conditional reference names. Raises FhirError 412 naming entry, element and criteria."""
    query = prepared.links.conditional[site.text]
    found = fresh.matches(query, facts.matches[prepared.references[site.text]])
    if len(found) == 1:
        return "/".join(found[0])
    code, what = ("multiple-matches", "is met by more than one resource") if found else ("not-found", "is met by no resource")
    zh = "有多个资源符合" if found else "没有资源符合"
    error = FhirError.of(
        412,
        code,
        f"The conditional reference '{site.text[:300]}' {what}",
        path_of(resource, site.holder, site.key),
        zh=f"条件引用“{site.text[:300]}”{zh}",
    )
    return _raise(within_entry(error, index, str(resource.get("resourceType"))))


def _raise(error: FhirError) -> str:
    raise error


def _check_integrity(context: Context, prepared: Prepared, facts: Facts, decision: Decision) -> None:
    """References to resources that do not exist after the transaction, and deletions of resources that are still referred to."""
    integrity.check(context, decision.writes, facts.current)
    deleted = [(write.type, write.id) for write in decision.writes if write.method == "DELETE"]
    if deleted:
        for entry in prepared.writing:
            planned = prepared.plans[entry.index]
            if planned.interaction == "delete" and planned.extra:
                seen = decision.seen[entry.index]
                referring = [[m for m in found if m not in decision.owner] for found in seen.matches[len(planned.criteria) :]]
                integrity.check_unreferenced(deleted, referring)


def answered_seen(decision: Decision, index: int, made: Mapping[Address, Stored | None]) -> Seen:
    """What an entry saw, with the versions that this transaction made: a conditional create may have found one of them."""
    seen = decision.seen[index]
    about = decision.about[index]
    if about in made and about not in seen.current:
        return Seen(seen.matches, {**seen.current, about: made[about]})
    return seen
