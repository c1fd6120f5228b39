"""FHIR history interaction: of one resource, one type, or all. https://hl7.org/fhir/R4/http.html#history"""

from __future__ import annotations

from typing import NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.bundles import Link, bundle
from fhir_server.interactions.context import Context
from fhir_server.interactions.cursors import position_of, token_for
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.present import WHOLE, Presentation, present, presentation
from fhir_server.interactions.query_string import FORMATTING, encoded, pairs
from fhir_server.interactions.read import unknown
from fhir_server.model import dates
from fhir_server.storage.port import Position, Stored

DEFAULT_COUNT = 20
MAX_COUNT = 1000
_KNOWN = FORMATTING | {"_summary", "_elements", "_count", "_since", "_at", "_cursor", "_total"}


class _Asked(NamedTuple):
    limit: int
    since: int | None
    at: tuple[int, int] | None
    after: Position | None
    total: bool
    how: Presentation
    pairs: tuple[tuple[str, str], ...]


def whole_number(name: str, value: str) -> int:
    """A count that is not negative; larger ones than MAX_COUNT are cut. Raises FhirError 400."""
    if not (value.isascii() and value.isdigit()):
        raise FhirError.of(400, "value", f"{name}={value[:80]} is not a whole number from 0", zh=f"{name}={value[:80]} 应为非负整数")
    return min(int(value[:18]), MAX_COUNT)


def _time(context: Context, name: str, value: str) -> tuple[int, int]:
    try:
        return dates.interval(value.replace(" ", "+"), context.zone)
    except ValueError as fault:
        what = f"{name}={value[:80]} is not a date or time: {fault}"
        raise FhirError.of(400, "value", what, zh=f"{name}={value[:80]} 不是日期或时间") from None


def _asked(context: Context, request: Request, scope: str) -> _Asked:
    """The parameters of a history. Raises FhirError 400."""
    count, since, at, after, total = DEFAULT_COUNT, None, None, None, False
    sent = pairs(request.query) if request.query else []
    kept: list[tuple[str, str]] = []
    for name, value in sent:
        if name not in _KNOWN:
            if preferences(request).strict:
                raise FhirError.of(
                    400,
                    "not-supported",
                    f"Parameter '{name[:80]}' is not supported by history; it has _count, _since, _at, _summary, _elements",
                    zh=f"历史不支持参数“{name[:80]}”；可用：_count、_since、_at、_summary、_elements",
                )
            continue
        if name == "_count":
            count = whole_number(name, value)
            kept.append((name, str(count)))
            continue
        if name == "_since":
            since = _time(context, name, value)[0]
        elif name == "_at":
            at = _time(context, name, value)
        elif name == "_cursor":
            after = position_of(context, scope, value)
            continue
        elif name == "_total":
            if value not in ("none", "estimate", "accurate"):
                what = f"_total={value[:80]} is not one of none, estimate, accurate"
                raise FhirError.of(400, "value", what, zh=f"_total={value[:80]} 应为 none、estimate、accurate 之一")
            total = value == "accurate"
        kept.append((name, value))
    how = presentation(sent) if sent else WHOLE
    return _Asked(count, since, at, after, total, how, tuple(kept))


def check(context: Context, request: Request, type: str | None, id: str | None) -> None:
    """Raises FhirError 400 or 410 for parameters that a history cannot have."""
    _asked(context, request, _scope(type, id))


def _scope(type: str | None, id: str | None) -> str:
    return f"{type or ''}/{id or ''}/_history"


def _response_status(stored: Stored) -> str:
    if stored.deleted:
        return "204"
    return "201" if stored.method == "POST" or stored.version == 1 else "200"


def _entry(context: Context, request: Request, stored: Stored, how: Presentation) -> bytes:
    place = f"{stored.type}/{stored.id}"
    url = stored.type if stored.method == "POST" else place
    head = f'{{"fullUrl":"{request.base}/{place}",'
    tail = (
        f'"request":{{"method":"{stored.method}","url":"{url}"}},'
        f'"response":{{"status":"{_response_status(stored)}","location":"{place}/_history/{stored.version}",'
        f'"etag":"W/\\"{stored.version}\\"","lastModified":"{instant(stored.updated)}"}}}}'
    )
    if stored.deleted:
        return (head + tail).encode()
    body = stored.body if how.whole else present(context, stored.body, how)
    return b"".join((head.encode(), b'"resource":', body, b",", tail.encode()))


async def history(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """Versions, newest first, deletions included, in pages. Raises FhirError 400, 404 (an id that never was)."""
    scope = _scope(type, id)
    asked = _asked(context, request, scope)
    page = await context.gate.history(
        request.principal,
        type,
        id,
        since=asked.since,
        at=asked.at,
        limit=max(asked.limit, 1),
        after=asked.after,
        total=asked.total or asked.how.summary == "count" or asked.limit == 0,
    )
    if type and id and not page.items and await context.gate.read(request.principal, type, id) is None:
        raise unknown(type, id)
    total = page.total
    if total is None and page.next is None and asked.after is None:
        total = len(page.items)
    empty = asked.limit == 0 or asked.how.summary == "count"
    entries = [] if empty else [_entry(context, request, stored, asked.how) for stored in page.items]
    place = "/".join(part for part in (request.base, type, id, "_history") if part)
    links = [Link("self", place + ("?" + encoded(asked.pairs) if asked.pairs else ""))]
    if page.next is not None and not empty:
        links.append(Link("next", f"{place}?{encoded((*asked.pairs, ('_cursor', token_for(context, scope, page.next))))}"))
    return Response(200, bundle("history", entries, links, total, context.clock()))
