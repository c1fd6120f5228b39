"""FHIR delete interaction, also conditional, single and multiple. https://hl7.org/fhir/R4/http.html#delete, https://hl7.org/fhir/R4/http.html#3.1.0.7.1"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fhir_server.errors import FhirError
from fhir_server.interactions import integrity
from fhir_server.interactions.answers import removed
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import several
from fhir_server.interactions.criteria import conditional_query, without_presentation
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.plan import PlannedWrite, Seen, perform
from fhir_server.interactions.preconditions import precondition
from fhir_server.interactions.prefer import Preferences, preferences
from fhir_server.search.query import Query
from fhir_server.storage.port import Outcome, Position, Stored, Write

_MOST = 10_000
_PAGE = 1000
_TRIES = 5


class _Changed(FhirError):
    """The set of matches changed between looking and deleting; look again."""


def _changed(type: str) -> _Changed:
    return _Changed.of(
        409, "conflict", f"The {type} resources that meet the criteria changed while they were deleted; send the request again"
    )  # type: ignore[return-value]


def _answer(request: Request, prefer: Preferences, outcomes: Sequence[Outcome]) -> Response:
    return removed(request, prefer, [outcome.stored for outcome in outcomes if outcome.result == "deleted" and outcome.stored])


def _plan_by_id(context: Context, request: Request, type: str, id: str) -> PlannedWrite:
    prefer = preferences(request)
    must = precondition(request)

    def decide(seen: Seen) -> list[Write]:
        if must.needs_current:
            must.check(type, id, seen.current.get((type, id)))
        if not request.entry:
            integrity.check_unreferenced([(type, id)], seen.matches)
        return [Write("DELETE", type, id, None, must.simple)]

    targets = ((type, id),) if must.needs_current else ()
    extra = integrity.referrers(context, type, id)
    return PlannedWrite("delete", type, id, None, decide, lambda seen, outcomes: _answer(request, prefer, outcomes), (), targets, extra)


async def _all_matches(context: Context, request: Request, query: Query) -> list[Stored]:
    found: list[Stored] = []
    after: Position | None = None
    while True:
        page = await context.gate.search(request.principal, replace(query, limit=_PAGE), after)
        found += page.items
        after = page.next
        if len(found) > _MOST:
            what = f"More than {_MOST} resources meet the criteria '{request.query[:200]}'; narrow them"
            raise FhirError.of(412, "too-costly", what, zh=f"符合条件“{request.query[:200]}”的资源超过 {_MOST} 个，请缩小条件")
        if after is None:
            return found


async def _plan_by_criteria(context: Context, request: Request, type: str) -> PlannedWrite:
    prefer = preferences(request)
    must = precondition(request)
    query = conditional_query(context, request, type, request.query)
    found = await _all_matches(context, request, query)
    if len(found) > 1 and context.settings.conditional_delete == "single":
        raise several(type, request.query)

    def decide_single(seen: Seen) -> list[Write]:
        matches = seen.matches[0]
        if len(matches) > 1 or (extra and [(stored.type, stored.id) for stored in found] != list(matches)):
            raise _changed(type)
        for _, id in matches:
            must.check(type, id, seen.current.get((type, id)))
        if not request.entry:
            integrity.check_unreferenced(matches, seen.matches[1:])
        return [Write("DELETE", type, id) for _, id in matches]

    def decide_multiple(seen: Seen) -> list[Write]:
        for stored in found:
            current = seen.current.get((type, stored.id))
            if current is None or current.version != stored.version:
                raise _changed(type)
            must.check(type, stored.id, current)
        if not request.entry:
            integrity.check_unreferenced([(type, stored.id) for stored in found], seen.matches)
        return [Write("DELETE", type, stored.id, None, stored.version) for stored in found]

    def answer(seen: Seen, outcomes: Sequence[Outcome]) -> Response:
        return _answer(request, prefer, outcomes)

    extra = tuple(question for stored in found for question in integrity.referrers(context, type, stored.id))
    if len(found) > 1:
        targets = tuple((type, stored.id) for stored in found)
        return PlannedWrite("delete", type, "", None, decide_multiple, answer, (), targets, extra)
    return PlannedWrite("delete", type, "", None, decide_single, answer, (query,), (), extra)


async def plan_delete(context: Context, request: Request, type: str, id: str | None) -> PlannedWrite:
    """A delete of one id, or (id None) of all that meet the criteria in the query (`conditional_delete=single`: of the only one)."""
    if id is not None:
        return _plan_by_id(context, request, type, id)
    if not without_presentation(request.query):
        what = f"A delete needs an id ([base]/{type}/id) or criteria ([base]/{type}?...)"
        raise FhirError.of(400, "required", what, zh=f"删除需要 id（[base]/{type}/id）或条件（[base]/{type}?…）")
    return await _plan_by_criteria(context, request, type)


async def delete(context: Context, request: Request, type: str, id: str | None) -> Response:
    """204, also where nothing was there. Raises FhirError 409 (referenced), 412."""
    for _ in range(_TRIES):
        try:
            return await perform(context, request, await plan_delete(context, request, type, id))
        except _Changed:
            continue
    raise _changed(type)
