"""$everything: a patient's or an encounter's whole record, with what it refers to.

Members of the compartment are matches, what they refer to (practitioners, organizations, locations, medications, devices, the Binaries
of attachments ...) is included once over all pages. Pages show the state of the first page: the paging link carries the snapshot and the
sequence numbers of what was included so far.
Specification: https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions.bundles import Link, bundle, search_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.cursors import position_of, token_for
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.query_string import encoded
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import Operation
from fhir_server.model import dates
from fhir_server.model.references import parse_reference
from fhir_server.operations.everything_scope import matches_among, member_types, referred, scope
from fhir_server.operations.inputs import Input, inputs, known
from fhir_server.search.parser import MAX_COUNT
from fhir_server.search.query import And, Position, Query, Updated
from fhir_server.storage.port import Stored

_NAMES = {"Patient": ("start", "end", "_since", "_type", "_count", "_cursor"), "Encounter": ("_since", "_type", "_count", "_cursor")}
_REMEMBERED = 300
"""Most included resources that a paging link names; beyond, the earliest of them may come again."""


@dataclass(slots=True)
class _Asked:
    """The question; times in milliseconds since 1970. `pairs` are those of the links, without the cursor."""

    pairs: list[tuple[str, str]]
    types: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    since: int | None = None
    count: int = MAX_COUNT
    cursor: str | None = None


class _Start(NamedTuple):
    """Where a page begins, and the sequence numbers of what earlier pages included."""

    after: Position | None
    included: tuple[int, ...]


def _time(context: Context, given: Input) -> tuple[int, int]:
    try:
        return dates.interval(given.text.replace(" ", "+"), context.zone)
    except dates.DateError as fault:
        raise given.refused(str(fault), fault.zh) from None


def _count(given: Input) -> int:
    text = given.text
    if not (text.isascii() and text.isdigit() and int(text[:12]) > 0):
        raise given.refused("must be a whole number from 1 on", "应为从 1 开始的整数")
    return min(int(text[:12]), MAX_COUNT)


def _asked(context: Context, request: Request, type: str) -> _Asked:
    """The question. Raises FhirError 400."""
    found = inputs(request)
    known("everything", found, _NAMES[type], ("_type",))
    asked = _Asked([])
    for one in found:
        if one.name == "_cursor":
            asked.cursor = one.text
            continue
        value = one.text
        if one.name == "start":
            asked.low = _time(context, one)[0]
        elif one.name == "end":
            asked.high = _time(context, one)[1]
        elif one.name == "_since":
            asked.since = _time(context, one)[0]
        elif one.name == "_count":
            asked.count = _count(one)
            value = str(asked.count)
        else:
            for name in value.split(","):
                if name not in context.types:
                    raise one.refused(f"'{name[:80]}' is not a resource type of FHIR R4", f"“{name[:80]}”不是 FHIR R4 的资源类型")
            asked.types += tuple(value.split(","))
        asked.pairs.append((one.name, value))
    if asked.low is not None and asked.high is not None and asked.low > asked.high:
        raise FhirError.of(
            400, "invalid", "start is after end: the range of care dates is empty", "start", zh="start 晚于 end：诊疗日期的范围为空"
        )
    return asked


def _begin(context: Context, place: str, asked: _Asked) -> _Start:
    """Raises FhirError 400 (changed link, or of another record), 410 (expired)."""
    if asked.cursor is None:
        return _Start(None, ())
    position = position_of(context, _list_of(place, asked), asked.cursor)
    *values, included = position.values
    return _Start(position._replace(values=tuple(values)), tuple(included))


def _list_of(place: str, asked: _Asked) -> str:
    return f"{place}?{[pair for pair in asked.pairs if pair[0] != '_count']}"


async def _focus(context: Context, request: Request, type: str, id: str) -> Stored:
    stored = await context.gate.read(request.principal, type, id)
    if stored is None:
        raise unknown(type, id)
    if stored.deleted:
        raise gone(stored)
    return stored


def _patients(type: str, focus: Stored | None) -> frozenset[str] | None:
    """Whose records may be shown: the Patient's own, or those of the Encounter's subject; None = all."""
    if focus is None:
        return None
    if type == "Patient":
        return frozenset({focus.id})
    subject = parse_reference(str((orjson.loads(focus.body).get("subject") or {}).get("reference", "")))
    return frozenset({subject.id} if subject.type == "Patient" else ())


async def everything(context: Context, request: Request, type: str, id: str | None) -> Response:
    """A searchset, newest first (the Patient or Encounter leads its page), of at most 1000 matches to a page.

    Raises FhirError 400, 404, 410 (deleted, or an expired link), 503 (took too long).
    """
    if id is None and type != "Patient":
        raise FhirError.of(
            400,
            "not-supported",
            f"$everything is not defined on type level for {type}; ask for one {type}/id",
            zh=f"$everything 在 {type} 的类型级别没有定义；请指明一个 {type}/id",
        )
    asked = _asked(context, request, type)
    focus = await _focus(context, request, type, id) if id else None
    place = "/".join(part for part in (type, id, "$everything") if part)
    start = _begin(context, place, asked)
    wanted = frozenset(asked.types)
    members = tuple(member for member in member_types(context, type) if not wanted or member in wanted)
    # A care record without a wanted member still has what its members refer to: they are looked through, and not shown.
    looked = members if not wanted or wanted <= set(members) else member_types(context, type)
    where = scope(context, request, type, id, looked, asked.low, asked.high)
    if asked.since is not None and wanted and looked == members:
        where = And((where, Updated(asked.since, None)))
    # Otherwise members without a change are looked through, too: what they refer to may have changed.
    page = await context.gate.search(request.principal, Query(looked, where, limit=asked.count), start.after)
    snapshot = page.next.snapshot if page.next else start.after.snapshot if start.after else None
    before = set(start.included)
    more = [one for one in await referred(context, request, page.items, _patients(type, focus), snapshot) if one.rid not in before]
    if snapshot is not None:
        more = [one for one in more if (one.type, one.id) != (type, id)]  # it is a match of some page itself
        elsewhere = await matches_among(context, request, looked, where, more, snapshot)
        more = [one for one in more if (one.type, one.id) not in elsewhere]
    shown = [one for one in page.items if _shows(asked, wanted, one)]
    more = [one for one in more if _shows(asked, wanted, one)]
    shown.sort(key=lambda one: (one.type, one.id) != (type, id))
    entries = [search_entry(request.base, one, one.body, "match") for one in shown]
    entries += [search_entry(request.base, one, one.body, "include") for one in more]
    query = f"?{encoded(asked.pairs)}" if asked.pairs else ""
    links = [Link("self", f"{request.base}/{place}{query}")]
    if page.next is not None:
        included = [*start.included, *(one.rid for one in more)][-_REMEMBERED:]
        following = page.next._replace(values=(*page.next.values, included))
        cursor = ("_cursor", token_for(context, _list_of(place, asked), following))
        links.append(Link("next", f"{request.base}/{place}?{encoded([*asked.pairs, cursor])}"))
    # Matches alone are counted, as in every searchset.
    total = len(shown) if page.next is None and start.after is None else None
    return Response(200, bundle("searchset", entries, links, total, context.clock()))


def _shows(asked: _Asked, wanted: frozenset[str], stored: Stored) -> bool:
    """Whether a resource is of a wanted type, and new enough."""
    return (not wanted or stored.type in wanted) and (asked.since is None or stored.updated >= asked.since)


OPERATION = Operation(
    name="everything",
    handler=everything,
    policy="everything",
    levels=frozenset({"type", "instance"}),
    types=("Patient", "Encounter"),
    definition="http://hl7.org/fhir/OperationDefinition/{type}-everything",
    title="A whole record",
)
