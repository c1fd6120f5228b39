"""What $everything asks the store: the compartment of a Patient or Encounter, the care dates, and what the found resources refer to.

Specification: https://hl7.org/fhir/R4/compartmentdefinition.html, https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import parser_of
from fhir_server.interactions.http import Request
from fhir_server.model.references import binaries_in, parse_reference, texts_in
from fhir_server.search.query import And, Criterion, Ids, KeyMatch, Not, Or, Present, Query, RangeMatch
from fhir_server.search.query import OfType as Typed
from fhir_server.storage.port import Stored

_ROUNDS = 3
"""How far references are followed: an Observation's PractitionerRole, its Organization, that one's Endpoint."""


def member_types(context: Context, compartment: str) -> tuple[str, ...]:
    """The compartment's types, its own first."""
    members = context.definitions.compartments[compartment]
    return (compartment, *(type for type in context.definitions.resource_types if members.get(type) and type != compartment))


def _of_all(context: Context, compartment: str, type: str) -> Criterion:
    """Resources of a type in the compartment of any resource."""
    choices: dict[Criterion, None] = {}
    for code in context.definitions.compartments[compartment][type]:
        parameter = context.search.get(type, code)
        if parameter is not None and parameter.type == "reference":
            found = [KeyMatch(source.number, compartment, None) for source in parameter.sources if source.target in (None, compartment)]
            choices |= dict.fromkeys(found)
    return Or(tuple(choices))


def _within(context: Context, type: str, low: int | None, high: int | None) -> Criterion | None:
    """Of these care dates, or of none at all; None where nothing is asked or the type has no such date."""
    number = context.search.clinical.get(type)
    if number is None or (low is None and high is None):
        return None
    return Or((Not(Present(number)), RangeMatch(number, low_max=high, high_min=low)))


def scope(
    context: Context, request: Request, compartment: str, id: str | None, types: Sequence[str], low: int | None, high: int | None
) -> Criterion:
    """The resources of `types` in the compartment of one resource, or (id None) of all; care dates in milliseconds since 1970."""
    filters = parser_of(context, request).filters
    parts: list[Criterion] = []
    for type in types:
        if type == compartment:
            parts.append(And((Typed(type), Ids((id,)))) if id else Typed(type))
            continue
        inside = filters.compartment(compartment, id, type) if id else _of_all(context, compartment, type)
        dated = _within(context, type, low, high)
        # A dated part names its type: without it, the negation would mean resources of every type.
        if dated is not None:
            parts.append(And((Typed(type), inside, dated)))
        else:
            parts += inside.parts if isinstance(inside, Or) else (inside,)
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _local(context: Context, request: Request, bodies: Iterable[bytes]) -> list[tuple[str, str]]:
    """The resources of this server that these refer to, the Binaries of their attachments among them."""
    bases = (request.base, *context.own_bases)
    found = []
    for text in dict.fromkeys(text for body in bodies for text in (*texts_in(body), *binaries_in(body))):
        to = parse_reference(text)
        if to.within(bases) and to.type in context.types:
            found.append((to.type, to.id))
    return found


async def referred(
    context: Context, request: Request, found: Sequence[Stored], patients: frozenset[str] | None, snapshot: int | None
) -> list[Stored]:
    """What these resources refer to, directly or through what they refer to, each once; of the state at `snapshot`.

    `patients`: the ids of those whose records may be shown (None = all): no other Patient, and nothing that refers to another one.
    """
    known = {(stored.type, stored.id) for stored in found}
    bodies = [stored.body for stored in found]
    result: list[Stored] = []
    for _ in range(_ROUNDS):
        wanted = dict.fromkeys(place for place in _local(context, request, bodies) if place not in known)
        if patients is not None:
            wanted = {place: None for place in wanted if place[0] != "Patient" or place[1] in patients}
        if not wanted:
            break
        known |= set(wanted)
        bodies = []
        for stored in await context.gate.read_many(request.principal, list(wanted), snapshot):
            about = {id for type, id in _local(context, request, [stored.body]) if type == "Patient"}
            if patients is None or stored.type == "Patient" or about <= patients:
                result.append(stored)
                # A Patient's links lead to other people, an Encounter's to what is in the compartment anyway.
                if stored.type != "Patient":
                    bodies.append(stored.body)
    return result


async def matches_among(
    context: Context, request: Request, types: Sequence[str], where: Criterion, candidates: Sequence[Stored], snapshot: int
) -> set[tuple[str, str]]:
    """Which of these are members themselves, and so stand on some page as matches."""
    by_type: dict[str, list[str]] = {}
    for stored in candidates:
        if stored.type in types:
            by_type.setdefault(stored.type, []).append(stored.id)
    if not by_type:
        return set()
    chosen = Or(tuple(And((Typed(type), Ids(tuple(ids)))) for type, ids in by_type.items()))
    query = Query(tuple(types), And((chosen, where)), limit=len(candidates))
    page = await context.gate.at(snapshot).search(request.principal, query)
    return {(stored.type, stored.id) for stored in page.items}
