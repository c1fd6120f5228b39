"""FHIR search interaction: of one type, of the system, of a compartment, by GET and POST. https://hl7.org/fhir/R4/http.html#search"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import NamedTuple

import orjson

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions.bundles import Link, bundle, outcome_entry, search_entry
from fhir_server.interactions.contained import Contained
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import parser_of
from fhir_server.interactions.cursors import position_of, token_for
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.include import MOST, included
from fhir_server.interactions.negotiate import form_of
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.present import Presentation, present
from fhir_server.interactions.query_string import encoded, pairs
from fhir_server.interactions.route import Route
from fhir_server.search.parser import ParsedSearch, Parser
from fhir_server.search.query import And, Criterion, OfType
from fhir_server.search.values_of import union
from fhir_server.storage.port import Page, Position, Stored

_FORM = "application/x-www-form-urlencoded"
_NOT_OF_THE_LIST = frozenset({"_count", "_total", "_format", "_pretty", "_summary", "_elements", "_include", "_revinclude", "_explain"})
_CLEAN = re.compile(r"[A-Za-z0-9:/,$*\-._~@!();?=&%]*\Z", re.ASCII).match
"""A query string in the form that `encoded` gives."""
MOST_WHOLE = 10_000
"""Most matches of an asynchronous search in one Bundle, and the size in bytes from which on it is cut too."""
_MOST_BYTES = 50_000_000
_WHOLE_PAGE = 1000
_HABITS = {("_totalMethod", "count"): ("_total", "accurate")}
"""What clients say in another product's words (fhirpy's `count()`), and what they mean."""


def _sent(request: Request) -> list[tuple[str, str]]:
    """The parameters of the address, and of the form of a POST. Raises FhirError 400, 406, 415."""
    found = pairs(request.query) if request.query else []
    if request.method == "POST" and request.body:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _FORM:
            raise FhirError.of(
                415,
                "not-supported",
                f"Content-Type '{kind[:80]}' is not supported by _search; send {_FORM}",
                zh=f"_search 不支持 Content-Type “{kind[:80]}”；请使用 {_FORM}",
            )
        try:
            form = pairs(request.body.decode("ascii"))
        except UnicodeDecodeError:
            raise FhirError.of(400, "value", "The form is not percent-encoded", zh="表单未作百分号编码") from None
        for name, value in form:
            if name == "_format":  # that of the address was looked at before
                request.form = form_of(request.headers.get("accept"), value)
        found += form
    return [_HABITS.get(pair, pair) for pair in found] if "_totalMethod" in request.query else found


def _everything_of(context: Context, parser: Parser, to: Route, sent: list[tuple[str, str]]) -> tuple[tuple[str, ...], Criterion]:
    """All types of a compartment, and the criterion of what is in it and of a type that `_type` asks for."""
    members = context.definitions.compartments[to.type]
    types = tuple(member for member in context.definitions.resource_types if members.get(member) or member == to.type)
    parts: list[Criterion] = []
    for member in parser.chosen(types, sent):
        inside = parser.filters.compartment(to.type, to.id, member)
        parts.append(And((OfType(member), inside)) if member == to.type else inside)
    return types, union(parts)


def _scope(context: Context, parser: Parser, to: Route, sent: list[tuple[str, str]]) -> tuple[tuple[str, ...], Criterion | None]:
    """The types that are searched, and the criterion of a compartment. Raises FhirError 400."""
    if not to.target:
        return ((to.type,) if to.type else context.definitions.resource_types), None
    if to.type not in context.definitions.compartments:
        known = ", ".join(sorted(context.definitions.compartments))
        raise FhirError.of(
            400, "not-supported", f"{to.type} has no compartment; {known} have", zh=f"{to.type} 没有区间；有区间的类型：{known}"
        )
    if to.target == "*":
        return _everything_of(context, parser, to, sent)
    return (to.target,), parser.filters.compartment(to.type, to.id, to.target)


def _place(to: Route) -> str:
    """The address below the base under which the same search is a GET."""
    return "/".join(part for part in (to.type, to.id, to.target) if part)


def _list_of(place: str, parsed: ParsedSearch) -> str:
    """What a paging link belongs to: all that decides which resources are in the list, and their order."""
    kept = [pair for pair in parsed.pairs if pair[0].partition(":")[0] not in _NOT_OF_THE_LIST]
    return f"{place}?{kept}"


def _query(request: Request, sent: list[tuple[str, str]], parsed: ParsedSearch) -> str:
    """The query of `link self`: as it was sent where all of it was understood, else of what was."""
    if not parsed.pairs:
        return ""
    if parsed.pairs == sent and request.method == "GET" and _CLEAN(request.query):
        return "?" + request.query
    return "?" + encoded(parsed.pairs)


def _links(request: Request, place: str, sent: list[tuple[str, str]], parsed: ParsedSearch) -> list[Link]:
    """`self` of this page, and behind the first page the way back to it: it shows the list as it is by then."""
    address = f"{request.base}/{place}"
    if parsed.cursor is None:
        return [Link("self", address + _query(request, sent, parsed))]
    first = f"?{encoded(parsed.pairs)}" if parsed.pairs else ""
    return [Link("self", f"{address}?{encoded([*parsed.pairs, ('_cursor', parsed.cursor)])}"), Link("first", address + first)]


def _remarks(context: Context, request: Request, parsed: ParsedSearch, more: Sequence[Issue]) -> list[bytes]:
    """The entry that says what was left out or cut off, if anything was."""
    issues = [*parsed.ignored, *more]
    if not issues:
        return []
    return [outcome_entry(orjson.dumps(operation_outcome(issues, chinese=wants_chinese(request.headers))))]


def _rendered(context: Context, request: Request, how: Presentation, found: Sequence[Stored], mode: str) -> list[bytes]:
    base = request.base
    if how.whole:
        return [search_entry(base, stored, stored.body, mode) for stored in found]
    return [search_entry(base, stored, present(context, stored.body, how), mode) for stored in found]


class Understood(NamedTuple):
    """A search as it was read: the parameters sent, the types, what they mean, and where a paging link goes on."""

    sent: list[tuple[str, str]]
    types: tuple[str, ...]
    parsed: ParsedSearch
    how: Presentation
    place: str
    after: Position | None


def understood(context: Context, request: Request, to: Route) -> Understood:
    """What a search asks for. Raises FhirError 400, 406, 410 (expired paging link), 415, 501."""
    parser = parser_of(context, request)
    sent = _sent(request)
    if not sent and not to.type:
        raise FhirError.of(
            400,
            "required",
            "A search over the whole system needs parameters, such as _type or _id",
            zh="在整个系统内检索需要参数，例如 _type 或 _id",
        )
    types, extra = _scope(context, parser, to, sent)
    parsed = parser.search(types, sent, lenient=not preferences(request).strict, extra=extra)
    how = Presentation(parsed.summary, parsed.elements)
    if how.summary == "text" and parsed.includes:
        raise FhirError.of(
            400,
            "invalid",
            "_summary=text cannot be combined with _include or _revinclude",
            zh="_summary=text 不能与 _include 或 _revinclude 一起使用",
        )
    place = _place(to)
    cut = parsed.cursor is not None and parsed.contained == "false" and parsed.query.limit > 0 and how.summary != "count"
    after = position_of(context, _list_of(place, parsed), parsed.cursor) if cut and parsed.cursor is not None else None
    return Understood(sent, types, parsed, how, place, after)


async def _found(context: Context, request: Request, asked: Understood) -> Page:
    """One page; for an asynchronous search without `_count` all matches, as of one moment, up to MOST_WHOLE."""
    query, after = asked.parsed.query, asked.after
    if request.course is None or any(name == "_count" for name, _ in asked.parsed.pairs):
        return await context.gate.search(request.principal, query, after)
    items: list[Stored] = []
    size, total = 0, None
    while True:
        page = await context.gate.search(request.principal, replace(query, limit=_WHOLE_PAGE), after)
        items += page.items
        size += sum(len(stored.body) for stored in page.items)
        total = page.total if total is None else total
        after = page.next
        if after is None:
            known = len(items) if asked.after is None else total
            return Page(items, None, known)
        if len(items) >= MOST_WHOLE or size >= _MOST_BYTES:
            return Page(items, after, total)
        await request.course.go_on()


async def search(context: Context, request: Request, to: Route) -> Response:
    """A searchset Bundle. Raises FhirError 400, 410 (expired paging link), 415, 501, 503 (took too long)."""
    began = perf_counter()
    asked = understood(context, request, to)
    rows: int | None = None
    try:
        response, rows = await _answered(context, request, to, asked)
        return response
    finally:
        if (slow := context.parts.get("slow searches")) is not None:
            # One that was ended for its length is not run once more to see why.
            explain = None if rows is None else partial(context.gate.explain, request.principal, asked.parsed.query)
            slow.note(to.target or to.type, (name for name, _ in asked.parsed.pairs), perf_counter() - began, rows, explain)


async def _answered(context: Context, request: Request, to: Route, asked: Understood) -> tuple[Response, int]:
    """The Bundle, and how many matches it holds."""
    sent, types, parsed, how, place, _ = asked
    links = _links(request, place, sent, parsed)
    remarks: list[Issue] = []
    if parsed.explain:
        context.gate.require(request.principal, "explain")
        facts = orjson.dumps(await context.gate.explain(request.principal, parsed.query), default=str)
        remarks.append(Issue("informational", facts.decode(), severity="information"))
    if parsed.contained != "false":
        found = await Contained(context, request, parsed, types).answer(how, _list_of(place, parsed))
        entries = [*found.entries, *_remarks(context, request, parsed, remarks)]
        if found.cursor:
            links.append(Link("next", f"{request.base}/{place}?{encoded([*parsed.pairs, ('_cursor', found.cursor)])}"))
        return Response(200, bundle("searchset", entries, links, found.total, context.clock())), len(found.entries)
    if parsed.query.limit == 0 or how.summary == "count":
        total = await context.gate.count(request.principal, parsed.query)
        return Response(200, bundle("searchset", _remarks(context, request, parsed, remarks), links, total, context.clock())), 0
    page = await _found(context, request, asked)
    entries = _rendered(context, request, how, page.items, "match")
    if parsed.includes and page.items:
        more = await included(context, request, parsed.includes, page.items)
        entries += _rendered(context, request, how, more, "include")
        if len(more) >= MOST:
            remarks.append(
                Issue(
                    "too-costly",
                    f"Only the first {MOST} included resources are shown",
                    severity="warning",
                    zh=f"只显示前 {MOST} 个被包含的资源",
                )
            )
    entries += _remarks(context, request, parsed, remarks)
    if page.next is not None:
        cursor = ("_cursor", token_for(context, _list_of(place, parsed), page.next))
        links.append(Link("next", f"{request.base}/{place}?{encoded([*parsed.pairs, cursor])}"))
    return Response(200, bundle("searchset", entries, links, page.total, context.clock())), len(page.items)
