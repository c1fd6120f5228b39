"""$reindex: index what is stored once more, in the background, durable, with visible progress.

POST [base]/$reindex makes the whole index anew: searches wait (503) until it is whole. With types (or a search parameter, which stands for
its types) the rows of these resources are written once more in place, and nothing waits. The answer is 202 with the address of the status;
there 202 with X-Progress while the work goes on, and 200 with its report when it is complete.
Specification: https://hl7.org/fhir/R4/async.html. Decision: docs/decisions/0048-custom-parameters.md
"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_server.auth.audit import trail_of
from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.operations.inputs import Input, inputs, known
from fhir_server.storage.port import Reindexing, Store

_LISTED = 20


def _types(context: Context, type: str | None, given: list[Input]) -> list[str]:
    """The types that are meant; [] = all of the index. Raises FhirError 400."""
    types = {type} if type else set()
    for one in given:
        if one.name == "type":
            names = [name.strip() for name in one.text.split(",")]
            for name in names:
                if name not in context.types:
                    raise one.refused(f"'{name[:80]}' is no resource type of FHIR R4", f"“{name[:80]}”不是 FHIR R4 的资源类型")
            if type and names != [type]:
                raise one.refused(f"the address names {type}", f"地址中指明的是 {type}")
            types.update(names)
    for one in given:
        if one.name in ("url", "code"):
            types = _having(context, one, types)
    return sorted(types)


def _having(context: Context, wanted: Input, types: set[str]) -> set[str]:
    """The types (among these, if any) that have a search parameter of this URL or code. Raises FhirError 400."""
    text = wanted.text
    found = {
        type
        for type in context.definitions.resource_types
        if not types or type in types
        for parameter in context.search.all_of(type)
        if text == (parameter.url if wanted.name == "url" else parameter.code)
    }
    if not found:
        raise wanted.refused(
            f"no search parameter of {', '.join(sorted(types)) or 'any type'} has this {wanted.name}",
            f"{'、'.join(sorted(types)) or '任何类型'} 都没有 {wanted.name} 与此相同的检索参数",
        )
    return found


def _report(work: Reindexing, chinese: bool) -> dict[str, Any]:
    """The state of the work as Parameters."""
    state = "running" if work.ended is None else "replaced" if work.fault == "begun anew" else "completed"
    parameters: list[dict[str, Any]] = [
        {"name": "job", "valueInteger": work.id},
        {"name": "state", "valueCode": state},
        *({"name": "type", "valueCode": type} for type in work.types),
        {"name": "indexed", "valueInteger": work.done},
        {"name": "total", "valueInteger": work.total},
        {"name": "errors", "valueInteger": work.faults},
        {"name": "began", "valueInstant": instant(work.began)},
    ]
    if work.ended is not None:
        parameters.append({"name": "ended", "valueInstant": instant(work.ended)})
        parameters.append({"name": "outcome", "resource": operation_outcome([_issue(work, state)], chinese=chinese)})
    return {"resourceType": "Parameters", "parameter": parameters}


def _issue(work: Reindexing, state: str) -> Issue:
    said, zh = f"{work.done} resources indexed", f"已索引 {work.done} 个资源"
    if state == "replaced":
        what = f"{said}; then the work was begun anew under other rules"
        return Issue("processing", what, severity="warning", zh=f"{zh}；随后按新的规则重新开始")
    if work.faults:
        what = f"{said}, {work.faults} of them with errors: they are found by their type only. The first: {work.fault}"
        return Issue("processing", what, zh=f"{zh}，其中 {work.faults} 个出错，只能按资源类型检索到。第一个错误：{work.fault}")
    return Issue("informational", f"{said} without errors", severity="information", zh=f"{zh}，没有错误")


async def _status(store: Store, given: list[Input], chinese: bool) -> Response:
    """How far work is. Raises FhirError 400, 404."""
    known("reindex", given, ("job",))
    if not given:
        body = {
            "resourceType": "Parameters",
            "parameter": [{"name": "work", "part": _report(work, chinese)["parameter"]} for work in (await store.reindexing())[:_LISTED]],
        }
        return Response(200, orjson.dumps(body if body["parameter"] else {"resourceType": "Parameters"}))
    (job,) = given
    if not (job.text.isascii() and job.text.isdigit() and len(job.text) < 15):
        raise job.refused("must be the number of a job", "应为任务的编号")
    found = await store.reindexing(int(job.text))
    if not found:
        raise FhirError.of(404, "not-found", f"There is no $reindex job {job.text}", zh=f"没有编号为 {job.text} 的 $reindex 任务")
    (work,) = found
    if work.ended is not None:
        return Response(200, orjson.dumps(_report(work, chinese)))
    share = 100 * work.done // max(1, work.total)
    headers = [("X-Progress", f"{work.done} of {work.total} resources indexed ({share} %)"), ("Retry-After", "1")]
    return Response(202, orjson.dumps(_report(work, chinese)), headers)


async def reindex(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """202 with the status address of work that was begun or joined; a GET tells the state. Raises FhirError 400, 404."""
    store: Store = context.parts["store"]
    given, chinese = inputs(request), wants_chinese(request.headers)
    if request.method != "POST":
        return await _status(store, given, chinese)
    known("reindex", given, ("type", "url", "code"), ("type",))
    types = _types(context, type, given)
    async with trail_of(context.parts, context.clock).taking(request.principal.name, "reindex", ", ".join(types) or "*") as entry:
        number = await store.reindex(types)
        entry.detail = f"job {number}"
    named, place = ", ".join(types[:10]), f"GET [base]/$reindex?job={number}"
    what = f"Job {number} indexes {f'resources of {named}' if types else 'all resources'}; its state: {place}"
    zh = f"任务 {number} 正在为{f' {named} 的资源' if types else '全部资源'}重建索引；进度：{place}"
    said = operation_outcome([Issue("informational", what, severity="information", zh=zh)], chinese=chinese)
    return Response(202, orjson.dumps(said), [("Content-Location", f"{request.base}/$reindex?job={number}"), ("Retry-After", "1")])


OPERATION = Operation(
    name="reindex",
    handler=reindex,
    policy="reindex",
    levels=frozenset({"system", "type"}),
    types=("", "*"),
    definition="urn:fhir-server:OperationDefinition:reindex",
    title="Index what is stored once more, in the background",
    affects_state=True,
)
