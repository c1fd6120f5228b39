"""`_summary` and `_elements`: shortened resources, marked SUBSETTED.

Specification: https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.query_string import PRESENTATION, pairs
from fhir_server.model import json_codec
from fhir_server.model.definitions import Definitions

SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
SUMMARIES = ("true", "text", "data", "count", "false")


class Presentation(NamedTuple):
    """How much of a resource is shown. `summary`: true, text, data, count, false or None; `elements`: names of `_elements`, () = all."""

    summary: str | None = None
    elements: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether resources leave as they are stored."""
        return not self.elements and self.summary in (None, "false")


WHOLE = Presentation()


def check_pretty(found: list[tuple[str, str]]) -> None:
    """Raises FhirError 400 for a `_pretty` that is neither true nor false."""
    for name, value in found:
        if name == "_pretty" and value not in ("true", "false"):
            raise _none_of(name, value, ("true", "false"))


def _none_of(name: str, value: str, known: tuple[str, ...]) -> FhirError:
    what = f"{name}={value[:80]} is not one of {', '.join(known)}"
    return FhirError.of(400, "value", what, zh=f"{name}={value[:80]} 应为 {'、'.join(known)} 之一")


def presentation(found: list[tuple[str, str]]) -> Presentation:
    """The presentation that the parameters ask for. Raises FhirError 400 for an unknown `_summary` or `_pretty`."""
    check_pretty(found)
    summary: str | None = None
    elements: list[str] = []
    for name, value in found:
        if name == "_summary":
            if value not in SUMMARIES:
                raise _none_of(name, value, SUMMARIES)
            summary = value
        elif name == "_elements":
            elements += [element.strip() for element in value.split(",") if element.strip()]
    return Presentation(summary, tuple(dict.fromkeys(elements)))


def _is_summary(definitions: Definitions, type: str, value: Any) -> Any:
    """The summary elements of a value of the given type, at every level; None where nothing is left."""
    if isinstance(value, list):
        kept = [_is_summary(definitions, type, item) for item in value]
        return kept if any(item is not None for item in kept) else None
    if not isinstance(value, dict):
        return value
    if type in ("Resource", "DomainResource"):
        type = str(value.get("resourceType", type))
    known = definitions.types.get(type)
    if known is None or known.kind == "primitive":
        return value
    shown = {}
    for name, inner in value.items():
        if name == "resourceType":
            shown[name] = inner
            continue
        found = known.by_json.get(name.removeprefix("_"))
        if found is None or not (found[0].summary or found[0].min > 0 or name == "id"):
            continue
        kept = inner if name.startswith("_") else _is_summary(definitions, found[1], inner)
        if kept is not None:
            shown[name] = kept
    return shown or None


def _top_level(definitions: Definitions, resource: dict[str, Any], wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The resource with the top-level elements (FHIR names) that are wanted, mandatory ones, and id and meta."""
    known = definitions.types[resource["resourceType"]]
    shown = {}
    for name, value in resource.items():
        found = known.by_json.get(name.removeprefix("_"))
        if name in ("resourceType", "id", "meta") or (found is not None and (found[0].min > 0 or wanted(found[0].name))):
            shown[name] = value
    return shown


def _mark(resource: dict[str, Any]) -> dict[str, Any]:
    meta = dict(resource.get("meta") or {})
    tags = [tag for tag in meta.get("tag", ()) if tag.get("code") != SUBSETTED["code"] or tag.get("system") != SUBSETTED["system"]]
    meta["tag"] = [*tags, SUBSETTED]
    head: dict[str, Any] = {name: resource[name] for name in ("resourceType", "id") if name in resource}
    return {**head, "meta": meta, **{name: value for name, value in resource.items() if name not in ("resourceType", "id", "meta")}}


def shortened(definitions: Definitions, resource: dict[str, Any], how: Presentation) -> dict[str, Any]:
    """The resource as `how` wants it, marked with the SUBSETTED tag."""
    if how.summary == "text":
        shown = _top_level(definitions, resource, lambda name: name == "text")
    elif how.summary == "data":
        shown = {name: value for name, value in resource.items() if name != "text"}
    elif how.summary == "true":
        shown = _is_summary(definitions, resource["resourceType"], resource) or {}
    else:
        shown = resource
    if how.elements:
        # `value` names all forms of value[x]; the JSON name of one form is a habit of clients that is served too.
        names = {
            element.rpartition(".")[2] if element.startswith(resource["resourceType"] + ".") else element.partition(".")[0]
            for element in how.elements
        }
        by_json = definitions.types[resource["resourceType"]].by_json
        names |= {by_json[name][0].name for name in names if name in by_json}
        shown = _top_level(definitions, shown, lambda name: name in names or name.removesuffix("[x]") in names)
    return _mark(shown)


def present(context: Context, body: bytes, how: Presentation) -> bytes:
    """Stored bytes as `how` wants them."""
    if how.whole or not body:
        return body
    return json_codec.dumps(shortened(context.definitions, json_codec.loads(body), how))


def present_one(context: Context, request: Request, response: Response) -> None:
    """Apply the parameters of a read to its answer. Raises FhirError 400 for parameters that a read does not have."""
    found = pairs(request.query)
    for name, _ in found:
        if name not in PRESENTATION and preferences(request).strict:
            what = f"Parameter '{name[:80]}' is not known here; a read has _format, _pretty, _summary and _elements"
            zh = f"读取不支持参数“{name[:80]}”；可用：_format、_pretty、_summary、_elements"
            raise FhirError.of(400, "not-supported", what, zh=zh)
    how = presentation(found)
    if how.summary == "count":
        raise FhirError.of(400, "value", "_summary=count is for searches, not for a single resource", zh="_summary=count 只用于检索")
    response.body = present(context, response.body, how)
