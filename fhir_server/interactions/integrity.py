"""Referential integrity, where the setting demands it: no reference to nothing, no deletion of what is referred to.

Specification: https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/http.html#delete,
CapabilityStatement.rest.resource.referencePolicy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_server.errors import FhirError, Issue
from fhir_server.interactions.context import Context
from fhir_server.model.references import parse_reference, references_in
from fhir_server.search.query import KeyMatch, Or, Query
from fhir_server.storage.port import Stored, Write


def targets(context: Context, resource: dict[str, object]) -> tuple[tuple[str, str], ...]:
    """(type, id) of the resources of this server that a resource refers to; () while the setting is off."""
    if not context.settings.referential_integrity:
        return ()
    found = (parse_reference(str(reference["reference"])) for reference in references_in(resource))
    return tuple(dict.fromkeys((r.type, r.id) for r in found if r.form == "relative" and r.type in context.types))


def check(context: Context, writes: Sequence[Write], current: Mapping[tuple[str, str], Stored | None]) -> None:
    """Raise FhirError 409 where a write refers to a resource that neither exists nor is written in the same unit."""
    if not context.settings.referential_integrity:
        return
    written = {(write.type, write.id) for write in writes if write.method != "DELETE"}
    deleted = {(write.type, write.id) for write in writes if write.method == "DELETE"}
    issues = []
    for write in writes:
        for target in targets(context, write.resource) if write.resource is not None else ():
            known = current.get(target)
            if target not in written and (target in deleted or known is None or known.deleted):
                place = f"{write.type}/{write.id}"
                issues.append(
                    Issue(
                        "not-found",
                        f"{place} refers to {target[0]}/{target[1]}, which does not exist",
                        (write.type,),
                        zh=f"{place} 引用了 {target[0]}/{target[1]}，而它不存在",
                    )
                )
    if issues:
        raise FhirError(409, issues)


def referrers(context: Context, type: str, id: str) -> tuple[Query, ...]:
    """The questions that a deletion asks: who refers to it, one query for each type that can; () while the setting is off."""
    if not context.settings.referential_integrity:
        return ()
    queries = []
    for source in context.definitions.resource_types:
        matches = tuple(
            KeyMatch(parameter.number, type, id)
            for parameter in context.search.of(source)
            if parameter.type == "reference" and not parameter.derived and (type in parameter.targets or "Resource" in parameter.targets)
        )
        if matches:
            queries.append(Query((source,), Or(matches), limit=2))
    return tuple(queries)


def check_unreferenced(deleted: Sequence[tuple[str, str]], matches: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Raise FhirError 409 where something that stays refers to what is deleted. `matches`: the answers to `referrers`."""
    gone = set(deleted)
    left = [match for found in matches for match in found if match not in gone]
    if left:
        names = ", ".join(sorted({f"{type}/{id}" for type, id in left})[:5])
        what = ", ".join(f"{type}/{id}" for type, id in list(deleted)[:3])
        raise FhirError.of(
            409,
            "conflict",
            f"{what} cannot be deleted: {names} refer to it; delete those first or in the same transaction",
            zh=f"不能删除 {what}：仍有 {names} 引用它；请先删除这些资源，或在同一事务中删除",
        )
