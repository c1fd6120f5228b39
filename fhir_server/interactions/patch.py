"""FHIR patch interaction, also conditional: JSON Patch, JSON Merge Patch, XML Patch, FHIRPath Patch. https://hl7.org/fhir/R4/http.html#patch

A patch is applied inside the store's transaction to the version that is current there, so that of two patches sent at
the same time neither is lost. A patch that changes nothing makes no version.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions import integrity
from fhir_server.interactions.answers import written
from fhir_server.interactions.content import checked, without_server_meta
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import several
from fhir_server.interactions.criteria import conditional_query, without_presentation
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.patch_fhirpath import apply_fhirpath_patch, check_fhirpath_patch
from fhir_server.interactions.patch_json import apply_json_patch, check_json_patch
from fhir_server.interactions.patch_merge import apply_merge_patch
from fhir_server.interactions.plan import PlannedWrite, Seen, perform
from fhir_server.interactions.preconditions import precondition
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import PATCH_FORMATS
from fhir_server.interactions.update import demand_if_match
from fhir_server.model import json_codec
from fhir_server.model.xml_reading import from_xml, root_of
from fhir_server.model.xml_writing import FHIR
from fhir_server.storage.port import Outcome, Write
from fhir_server.validation import structure

Changer = Callable[[dict[str, Any]], Any]
"""From the current content to the patched one; pure; raises FhirError 422."""

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
FHIRPATH_PATCH = "application/fhir+json"
_FHIR_JSON = frozenset({"application/fhir+json", "application/json+fhir"})
_PLAIN_JSON = frozenset({"application/json", "text/json"})
XML_PATCH = "application/xml-patch+xml"
_FHIR_XML = frozenset({"application/fhir+xml", "application/xml", "text/xml"})
SERVED = PATCH_FORMATS


def changer_of(request: Request) -> Changer:
    """What the request's content does to a resource. Raises FhirError 400 (no such patch), 415 (another kind of content)."""
    kind, document = _read(request)
    if kind == FHIRPATH_PATCH:
        return _fhirpath_changer(document)
    if kind == XML_PATCH:
        return _xml_changer(document)
    return _json_changer(document) if kind == JSON_PATCH else _merge_changer(document)


def patch_document(request: Request) -> Any:
    """The patch as JSON, of whatever kind it is; an XML Patch as its bytes. Raises as `changer_of`."""
    return _read(request)[1]


def _read(request: Request) -> tuple[str, Any]:
    """Kind and document of a patch. An entry of a Bundle carries Parameters, or a Binary with the document and its content type."""
    resource = request.resource
    if resource is None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        return _kind(kind, request.body)
    if resource.get("resourceType") == "Parameters":
        return FHIRPATH_PATCH, resource
    if resource.get("resourceType") != "Binary":
        sent = str(resource.get("resourceType"))[:80]
        raise FhirError.of(
            400,
            "invalid",
            f"A PATCH entry carries a Binary or Parameters resource, not {sent}",
            "Bundle.resource",
            zh=f"PATCH 条目的资源应为 Binary 或 Parameters，而收到 {sent}",
        )
    structure.check(resource)
    kind = str(resource.get("contentType", "")).partition(";")[0].strip().lower()
    try:
        body = base64.b64decode("".join(str(resource.get("data", "")).split()), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise FhirError.of(
            400, "value", f"Binary.data is not base64: {problem}", "Binary.data", zh=f"Binary.data 不是 base64：{problem}"
        ) from problem
    return _kind(kind, body)


def _kind(kind: str, body: bytes) -> tuple[str, Any]:
    if kind in (JSON_PATCH, MERGE_PATCH):
        return kind, _document(body)
    if kind == XML_PATCH:
        return kind, body
    if kind in _FHIR_XML:
        if root_of(body) != (FHIR, "Parameters"):
            return XML_PATCH, body
        return FHIRPATH_PATCH, from_xml(body)
    if kind in _FHIR_JSON or kind in _PLAIN_JSON:
        document = _document(body)
        if isinstance(document, dict) and document.get("resourceType") == "Parameters":
            return FHIRPATH_PATCH, document
        if kind in _PLAIN_JSON:
            return JSON_PATCH if isinstance(document, list) else MERGE_PATCH, document
        raise FhirError.of(
            400,
            "invalid",
            "A patch sent as application/fhir+json must be a Parameters resource (FHIRPath Patch)",
            zh="以 application/fhir+json 发送的补丁必须是 Parameters 资源（FHIRPath Patch）",
        )
    what = f"The patch format '{kind[:100]}' is not supported" if kind else "A patch needs a Content-Type"
    zh = f"不支持补丁格式“{kind[:100]}”" if kind else "补丁需要 Content-Type"
    raise FhirError.of(
        415,
        "not-supported",
        f"{what}; send {', '.join(SERVED)}",
        headers=[("Accept-Patch", ", ".join(SERVED))],
        zh=f"{zh}；请使用 {'、'.join(SERVED)}",
    )


def _document(body: bytes) -> Any:
    if not body.strip():
        raise FhirError.of(400, "required", "The patch is empty", zh="补丁为空")
    return json_codec.loads_any(body)


def _json_changer(document: Any) -> Changer:
    operations = check_json_patch(document)
    return lambda resource: _pruned(apply_json_patch(resource, operations))


def _merge_changer(document: Any) -> Changer:
    if not isinstance(document, dict):
        raise FhirError.of(
            400, "structure", "A merge patch of a resource must be a JSON object", zh="资源的合并补丁（merge patch）必须是 JSON 对象"
        )
    return lambda resource: _pruned(apply_merge_patch(resource, document))


def _xml_changer(document: bytes) -> Changer:
    from fhir_server.interactions.patch_xml import apply_xml_patch, check_xml_patch

    operations = check_xml_patch(document)
    return lambda resource: apply_xml_patch(resource, operations)


def _fhirpath_changer(parameters: dict[str, Any]) -> Changer:
    structure.check(parameters, bundle_entry=True, pieces=True)  # what the values become in the resource is checked with it
    changes = check_fhirpath_patch(parameters)
    return lambda resource: apply_fhirpath_patch(resource, changes)


def _pruned(value: Any) -> Any:
    """Without the arrays and objects that a removal left empty: FHIR's JSON has none (https://hl7.org/fhir/R4/json.html)."""
    if isinstance(value, dict):
        members = {name: _pruned(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if not (isinstance(member, dict | list) and not member)}
    if isinstance(value, list):
        return [item for item in map(_pruned, value) if not (isinstance(item, dict | list) and not item)]
    return value


def patched(context: Context, type: str, id: str, before: dict[str, Any], change: Changer, *, transaction: bool = False) -> dict[str, Any]:
    """The content after the patch, valid and of the same type and id. Raises FhirError 400 or 422."""
    after = change(before)
    if not isinstance(after, dict):
        raise FhirError.of(
            422,
            "invalid",
            "The patch leaves no resource behind: the result is not a JSON object",
            zh="补丁之后没有留下资源：结果不是 JSON 对象",
        )
    for name, wanted in (("resourceType", type), ("id", id)):
        if after.get(name) != wanted:
            raise FhirError.of(
                422,
                "business-rule",
                f"A patch must not change {name}: it was '{wanted}', the patch gives {after.get(name)!r}",
                f"{type}.{name}",
                zh=f"补丁不能改变 {name}：原为“{wanted}”，补丁给出 {after.get(name)!r}",
            )
    without_server_meta(after)
    try:
        return checked(context, after, transaction=transaction)
    except FhirError as error:
        # The patch itself could be read; it is its result that is not acceptable.
        raise FhirError(422, error.issues, error.headers) from error


async def plan_patch(context: Context, request: Request, type: str, id: str | None) -> PlannedWrite:
    """A patch of one id, or (id None) of the one resource that meets the criteria in the query."""
    prefer = preferences(request)
    must = precondition(request)
    change = changer_of(request)
    query = None
    if id is None:
        if not without_presentation(request.query):
            raise FhirError.of(
                400,
                "required",
                f"A patch needs an id ([base]/{type}/id) or criteria ([base]/{type}?...)",
                zh=f"补丁需要 id（[base]/{type}/id）或条件（[base]/{type}?…）",
            )
        query = conditional_query(context, request, type, request.query)

    def decide(seen: Seen) -> list[Write]:
        target = id if id is not None else _only_match(type, request.query, seen)
        current = seen.current.get((type, target))
        if current is None:
            raise unknown(type, target)
        if current.deleted:
            raise gone(current)
        must.check(type, target, current)
        demand_if_match(context, must, type, target, current)
        after = patched(context, type, target, json_codec.loads(current.body), change, transaction=request.transaction)
        writes = [Write("PATCH", type, target, after, current.version)]
        if context.settings.referential_integrity and not request.entry:
            integrity.check(context, writes, seen.current)
        return writes

    def answer(seen: Seen, outcomes: Sequence[Outcome]) -> Response:
        result, stored = outcomes[0]
        assert stored is not None
        return written(request, prefer, result, stored)

    criteria = (query,) if query is not None else ()
    return PlannedWrite("patch", type, id or "", None, decide, answer, criteria, ((type, id),) if id is not None else ())


def _only_match(type: str, criteria: str, seen: Seen) -> str:
    matches = seen.matches[0]
    if len(matches) > 1:
        raise several(type, criteria)
    if not matches:
        raise FhirError.of(
            404,
            "not-found",
            f"No {type} meets the criteria '{criteria[:200]}'; there is nothing to patch",
            zh=f"没有符合条件“{criteria[:200]}”的 {type}；没有可修改的内容",
        )
    return matches[0][1]


async def patch(context: Context, request: Request, type: str, id: str | None) -> Response:
    """200 with the patched resource. Raises FhirError 400, 404, 410, 412, 415, 422, 428."""
    return await perform(context, request, await plan_patch(context, request, type, id))
