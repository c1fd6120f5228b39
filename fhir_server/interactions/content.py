"""A request's content as a resource: media type, JSON or XML, structure, and agreement with the address.

Specification: https://hl7.org/fhir/R4/http.html#create, https://hl7.org/fhir/R4/http.html#update, https://hl7.org/fhir/R4/resource.html#Meta
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.interactions.negotiate import content_form
from fhir_server.model import json_codec
from fhir_server.model.xml_reading import from_xml
from fhir_server.validation import structure

UNLIMITED = frozenset({"Binary", "Bundle"})
"""Types whose resources may be as large as a whole request."""


def parsed(request: Request) -> Any:
    """The request's content as JSON, also where it was sent as XML. Raises FhirError 415, 400 (neither of them, or none at all)."""
    if request.resource is not None:
        return request.resource
    form = content_form(request.headers.get("content-type"))
    if not request.body:
        place = f"{request.method} [base]/{request.path}"
        what = f"{place} needs a resource as content, but the body is empty"
        raise FhirError.of(400, "required", what, zh=f"{place} 需要以资源为内容，但请求体为空")
    return json_codec.loads(request.body) if form == "json" else from_xml(request.body)


def without_server_meta(resource: dict[str, Any]) -> None:
    """Take `meta.versionId` and `meta.lastUpdated` out, in place: the server alone sets them."""
    meta = resource.get("meta")
    if isinstance(meta, dict):
        for name in ("versionId", "lastUpdated", "_versionId", "_lastUpdated"):
            meta.pop(name, None)
        if not meta:
            del resource["meta"]


def _check_type(content: Any, type: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        what = f"The content must be a JSON object, a resource of type {type}"
        raise FhirError.of(400, "structure", what, zh=f"内容必须是 JSON 对象，即 {type} 类型的资源")
    sent = content.get("resourceType")
    if sent != type:
        what, zh = ("missing", "缺失") if sent is None else ("not a string", "不是字符串")
        if isinstance(sent, str):
            what, zh = f"'{sent}'", f"是“{sent}”"
        english = f"resourceType is {what}, but the address names {type}"
        raise FhirError.of(400, "invalid", english, f"{type}.resourceType", zh=f"resourceType {zh}，而地址中是 {type}")
    return content


def checked(context: Context, resource: dict[str, Any], *, transaction: bool = False) -> dict[str, Any]:
    """The resource if its structure is right. Raises FhirError 400 (not readable as R4) or 422 (breaks a rule) with all faults.

    `transaction`: it is an entry of one, where conditional references may stand.
    """
    if context.settings.validation != "off":
        structure.check(resource, bundle_entry=transaction)
    if context.settings.validation == "profiles" and (faults := context.parts["validating"].written(resource)):
        raise FhirError(422, faults)
    return resource


def resource_of(context: Context, request: Request, type: str, id: str | None = None) -> dict[str, Any]:
    """The resource that the request carries, ready to be written: of `type`, valid, without the server's own meta elements.

    With `id` (an update) the content must carry the same id. Raises FhirError 400, 415, 422.
    """
    resource = _check_type(parsed(request), type)
    if id is not None:
        sent = resource.get("id")
        if sent is None:
            raise FhirError.of(
                400,
                "required",
                f"The content has no id, but the address names {type}/{id}; an update's content must carry it",
                f"{type}.id",
                zh=f"内容没有 id，而地址中是 {type}/{id}；更新的内容必须带有相同的 id",
            )
        if sent != id:
            what = f"The content's id is '{str(sent)[:80]}', but the address names {type}/{id}"
            raise FhirError.of(400, "invalid", what, f"{type}.id", zh=f"内容的 id 是“{str(sent)[:80]}”，而地址中是 {type}/{id}")
    without_server_meta(resource)
    return checked(context, resource, transaction=request.transaction)
