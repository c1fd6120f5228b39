"""FHIR update interaction, also as create and conditional. https://hl7.org/fhir/R4/http.html#update, https://hl7.org/fhir/R4/http.html#cond-update"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.errors import FhirError
from fhir_server.interactions import integrity
from fhir_server.interactions.answers import written
from fhir_server.interactions.binary import resource_from
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import several, with_id
from fhir_server.interactions.criteria import conditional_query, without_presentation
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.ids import is_id, new_id
from fhir_server.interactions.plan import PlannedWrite, Seen, perform
from fhir_server.interactions.preconditions import Precondition, precondition
from fhir_server.interactions.prefer import Preferences, preferences
from fhir_server.storage.port import Outcome, Stored, Write


def demand_if_match(context: Context, must: Precondition, type: str, id: str, current: Stored | None) -> None:
    """Raise FhirError 428 where the setting wants If-Match and the resource exists."""
    if context.settings.require_if_match and must.versions is None and current is not None and not current.deleted:
        what = f"This server wants If-Match with the version of {type}/{id} that is to be changed"
        raise FhirError.of(428, "conflict", what, zh=f"本服务器要求以 If-Match 指明要修改的 {type}/{id} 的版本")


def _answer(request: Request, prefer: Preferences, outcomes: Sequence[Outcome]) -> Response:
    result, stored = outcomes[0]
    assert stored is not None
    return written(request, prefer, result, stored)


def _plan_by_id(context: Context, request: Request, type: str, id: str) -> PlannedWrite:
    prefer = preferences(request)
    must = precondition(request)
    resource = resource_from(context, request, type, id)
    settings = context.settings
    looks = must.needs_current or settings.require_if_match

    def decide(seen: Seen) -> list[Write]:
        if looks:
            current = seen.current.get((type, id))
            must.check(type, id, current)
            demand_if_match(context, must, type, id, current)
        writes = [Write("PUT", type, id, resource, must.simple)]
        if settings.referential_integrity and not request.entry:
            integrity.check(context, writes, seen.current)
        return writes

    targets: tuple[tuple[str, str], ...] = ((type, id),) if looks else ()
    if settings.referential_integrity:
        targets += integrity.targets(context, resource)
    return PlannedWrite("update", type, id, resource, decide, lambda seen, outcomes: _answer(request, prefer, outcomes), (), targets)


def _plan_by_criteria(context: Context, request: Request, type: str) -> PlannedWrite:
    """R4's table of conditional updates; an id that is taken by a resource that does not match is a conflict (as R5 clarifies)."""
    prefer = preferences(request)
    must = precondition(request)
    query = conditional_query(context, request, type, request.query)
    resource = resource_from(context, request, type)
    sent = resource.get("id")
    if sent is not None and not is_id(sent):
        raise FhirError.of(400, "value", f"'{str(sent)[:80]}' is not an id", f"{type}.id", zh=f"“{str(sent)[:80]}”不是合法的 id")
    planned = with_id(resource, sent or new_id())
    id = planned["id"]

    def decide(seen: Seen) -> list[Write]:
        matches = seen.matches[0]
        if len(matches) > 1:
            raise several(type, request.query)
        found = matches[0][1] if matches else id
        if sent is not None and found != sent:
            what = f"The content's id is '{sent}', but the criteria are met by {type}/{found}"
            raise FhirError.of(400, "invalid", what, f"{type}.id", zh=f"内容的 id 是“{sent}”，而符合条件的是 {type}/{found}")
        current = seen.current.get((type, found))
        if not matches and current is not None and not current.deleted:
            what = f"No {type} meets the criteria, but {type}/{found} exists with other content"
            raise FhirError.of(409, "conflict", what, zh=f"没有符合条件的 {type}，但 {type}/{found} 已存在且内容不同")
        must.check(type, found, current)
        demand_if_match(context, must, type, found, current)
        # The store must not see the content under another id than the one it is written to.
        planned["id"] = found
        writes = [Write("PUT", type, found, planned, must.simple)]
        if context.settings.referential_integrity and not request.entry:
            integrity.check(context, writes, seen.current)
        return writes

    targets: tuple[tuple[str, str], ...] = ((type, id),)
    if context.settings.referential_integrity:
        targets += integrity.targets(context, planned)
    return PlannedWrite("update", type, id, planned, decide, lambda seen, outcomes: _answer(request, prefer, outcomes), (query,), targets)


async def plan_update(context: Context, request: Request, type: str, id: str | None) -> PlannedWrite:
    """An update of one id, or (id None) of what meets the criteria in the query."""
    if id is not None:
        return _plan_by_id(context, request, type, id)
    if not without_presentation(request.query):
        what = f"An update needs an id ([base]/{type}/id) or criteria ([base]/{type}?...)"
        raise FhirError.of(400, "required", what, zh=f"更新需要 id（[base]/{type}/id）或条件（[base]/{type}?…）")
    return _plan_by_criteria(context, request, type)


async def update(context: Context, request: Request, type: str, id: str | None) -> Response:
    """200, or 201 where it was created. Raises FhirError 400, 409, 412, 413, 415, 422, 428."""
    return await perform(context, request, await plan_update(context, request, type, id))
