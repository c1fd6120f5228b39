"""Observation/$lastn: the most recent observations of each code.

Specification: https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import orjson

from fhir_server.errors import FhirError, operation_outcome
from fhir_server.interactions.bundles import Link, bundle, outcome_entry, search_entry
from fhir_server.interactions.context import Context
from fhir_server.interactions.criteria import parser_of
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.include import included
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.present import Presentation, present
from fhir_server.interactions.query_string import encoded
from fhir_server.interactions.registration import Operation
from fhir_server.operations.inputs import Input, inputs
from fhir_server.operations.observation_groups import Groups, all_of, code_keys, effective
from fhir_server.search.parser import MAX_COUNT
from fhir_server.search.query import Query
from fhir_server.storage.port import Stored

_SUBJECTS = ("patient", "subject")
_CODES = ("category", "code", "combo-code", "component-code")
_NOT_HERE = ("_count", "_sort", "_cursor", "_total", "_explain")
_OFTEN = 64
"""How many more than wanted may gather under one code before the older ones are dropped."""


class _Seen(NamedTuple):
    time: tuple[int, int]
    stored: Stored


def _max(given: list[Input]) -> int:
    found = [one for one in given if one.name == "max"]
    if len(found) > 1:
        raise found[1].refused("$lastn takes this parameter once", "$lastn 只接受一个此参数")
    if not found:
        return 1
    text = found[0].text
    if not (text.isascii() and text.isdigit() and int(text[:12]) > 0):
        raise found[0].refused("must be a whole number from 1 on", "应为从 1 开始的整数")
    return int(text[:12])


def _filters(given: list[Input]) -> list[tuple[str, str]]:
    """The search parameters. Raises FhirError 400 where subject, or category and code, are absent."""
    found = [(one.name, one.text) for one in given if one.name != "max"]
    names = {name.partition(":")[0].partition(".")[0] for name, _ in found}
    for name in _NOT_HERE:
        if name in names:
            raise FhirError.of(
                400,
                "not-supported",
                f"$lastn has no parameter '{name}': newest come first, 'max' limits each code",
                name,
                zh=f"$lastn 没有参数“{name}”：结果总是最新的在前，“max”限定每个代码的数量",
            )
    if not names & set(_SUBJECTS):
        raise FhirError.of(400, "required", "$lastn needs the parameter 'patient' or 'subject'", zh="$lastn 需要参数“patient”或“subject”")
    if not any(name in _CODES or name.startswith(tuple(f"{code}-" for code in _CODES)) for name in names):
        raise FhirError.of(
            400,
            "required",
            "$lastn needs the parameter 'category', or one with a code, such as 'code'",
            zh="$lastn 需要参数“category”，或某个代码参数，例如“code”",
        )
    return found


def newest(seen: list[_Seen], count: int) -> list[_Seen]:
    """The last `count` by time, newest first, and all that tie with the last of them."""
    ordered = sorted(seen, key=lambda one: (one.time, one.stored.rid), reverse=True)
    if len(ordered) <= count:
        return ordered
    last = ordered[count - 1].time
    return [one for position, one in enumerate(ordered) if position < count or one.time == last]


async def _found(context: Context, request: Request, query: Query, count: int) -> list[Stored]:
    """The observations that are answered: groups by their newest one, newest first within each."""
    groups = Groups()
    by_codes: dict[tuple[object, ...], list[_Seen]] = {}
    async for page in all_of(context, request, replace(query, limit=MAX_COUNT)):
        for stored in page:
            observation = orjson.loads(stored.body)
            keys = code_keys(observation.get("code") or {})
            groups.join(keys)
            kept = by_codes.setdefault(keys, [])
            kept.append(_Seen(effective(observation, context.zone), stored))
            if len(kept) > 2 * count + _OFTEN:
                by_codes[keys] = newest(kept, count)
    joined: dict[object, list[_Seen]] = {}
    for keys, kept in by_codes.items():
        joined.setdefault(groups.root(keys[0]), []).extend(kept)
    lists = sorted((newest(kept, count) for kept in joined.values()), key=lambda kept: (kept[0].time, kept[0].stored.rid), reverse=True)
    return [one.stored for kept in lists for one in kept]


async def lastn(context: Context, request: Request, type: str, id: str | None) -> Response:
    """A searchset of the last `max` (1) observations of each code; more where times tie. Statuses are filtered only where asked.

    Raises FhirError 400, 415, 501, 503 (took too long).
    """
    given = inputs(request)
    count = _max(given)
    filters = _filters(given)
    parsed = parser_of(context, request).search((type,), filters, lenient=not preferences(request).strict)
    found = await _found(context, request, parsed.query, count)
    how = Presentation(parsed.summary, parsed.elements)
    told = [*([("max", str(count))] if any(one.name == "max" for one in given) else []), *parsed.pairs]
    links = [Link("self", f"{request.base}/{type}/$lastn?{encoded(told)}")]
    if how.summary == "count":
        return Response(200, bundle("searchset", [], links, len(found), context.clock()))
    entries = [search_entry(request.base, stored, present(context, stored.body, how), "match") for stored in found]
    if parsed.includes and found:
        more = await included(context, request, parsed.includes, found)
        entries += [search_entry(request.base, stored, present(context, stored.body, how), "include") for stored in more]
    if parsed.ignored:
        entries.append(outcome_entry(orjson.dumps(operation_outcome(parsed.ignored, chinese=wants_chinese(request.headers)))))
    return Response(200, bundle("searchset", entries, links, len(found), context.clock()))


OPERATION = Operation(
    name="lastn",
    handler=lastn,
    policy="lastn",
    levels=frozenset({"type"}),
    types=("Observation",),
    definition="http://hl7.org/fhir/OperationDefinition/Observation-lastn",
    title="The most recent observations of each code",
)
