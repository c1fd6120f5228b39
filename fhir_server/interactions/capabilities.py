"""FHIR capabilities interaction: the CapabilityStatement, made from what is registered. https://hl7.org/fhir/R4/http.html#capabilities"""

from __future__ import annotations

from typing import Any

import orjson

from fhir_server import __version__
from fhir_server.errors import FhirError
from fhir_server.interactions.about import about
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import parse_tags
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.prefer import preferences
from fhir_server.interactions.present import present, presentation
from fhir_server.interactions.query_string import PRESENTATION, pairs
from fhir_server.interactions.registration import COMPARTMENTS, FORMATS, INTERACTIONS, PATCH_FORMATS, Operation
from fhir_server.interactions.terminology_capabilities import terminology_statement
from fhir_server.search.parameters import Parameter

_NORMATIVE = frozenset(
    {
        "Binary", "Bundle", "CapabilityStatement", "CodeSystem", "Observation", "OperationDefinition", "OperationOutcome", "Parameters",
        "Patient", "StructureDefinition", "ValueSet",
    }
)  # fmt: skip
_TOPIC_BASED = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-subscription"
_TOPIC = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical"
_TOPIC_SERVER = "http://hl7.org/fhir/uv/subscriptions-backport/CapabilityStatement/backport-subscription-server-r4"
_SERVED = "All resource types of FHIR R4 are served alike. Prefer: respond-async is followed for searches, histories and Bundles."
_MODES = ("full", "normative", "terminology")


_OWN = (
    {"name": "_id", "definition": "http://hl7.org/fhir/SearchParameter/Resource-id", "type": "token"},
    {"name": "_lastUpdated", "definition": "http://hl7.org/fhir/SearchParameter/Resource-lastUpdated", "type": "date"},
    {"name": "_list", "type": "special", "documentation": "Resources to which a List with this id refers."},
)
"""Parameters of all types that the store answers by itself."""


def _shared_parameters(context: Context) -> list[dict[str, str]]:
    return [*_OWN, *(_parameter(parameter) for parameter in context.search.of("Resource"))]


def _parameter(parameter: Parameter) -> dict[str, str]:
    entry = {"name": parameter.code}
    if parameter.url:
        entry["definition"] = parameter.url
    entry["type"] = parameter.type
    return entry


def _operation(operation: Operation, type: str) -> dict[str, str]:
    definition = operation.definition.replace("{type}", type) or f"http://hl7.org/fhir/OperationDefinition/{operation.name}"
    return {"name": operation.name, "definition": definition}


def _operations(context: Context, type: str) -> list[dict[str, str]]:
    """The operations of a type; with '' those of the system level."""
    found = []
    for operation in context.operations.operations.values():
        if type == "":
            fits = "system" in operation.levels
        else:
            fits = bool(operation.levels & {"type", "instance"}) and (type in operation.types or "*" in operation.types)
        if fits:
            found.append(_operation(operation, type))
    return sorted(found, key=lambda entry: entry["name"])


def _reverse_includes(context: Context) -> dict[str, list[str]]:
    """For each type the `_revinclude` values that can find something: 'Observation:subject'."""
    found: dict[str, list[str]] = {type: [] for type in context.definitions.resource_types}
    for source in context.definitions.resource_types:
        for parameter in context.search.of(source):
            if parameter.type == "reference":
                for target in parameter.targets if "Resource" not in parameter.targets else found:
                    if target in found:
                        found[target].append(f"{source}:{parameter.code}")
    return found


def _resource(context: Context, type: str, reverse: list[str]) -> dict[str, Any]:
    parameters = sorted(context.search.of(type), key=lambda parameter: parameter.code)
    entry: dict[str, Any] = {
        "type": type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{type}",
        "interaction": [{"code": interaction.code} for interaction in INTERACTIONS if interaction.level != "system"],
        "versioning": "versioned-update" if context.settings.require_if_match else "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": context.settings.conditional_delete,
        "referencePolicy": ["literal", "logical", *(["enforced"] if context.settings.referential_integrity else [])],
    }
    validating = context.parts.get("validating")
    profiles = validating.library.profiles.get(type) if validating else None
    topics = context.parts.get("topics") if type == "Subscription" else None
    if topics:
        profiles = {*(profiles or ()), _TOPIC_BASED}
        entry = {"extension": [{"url": _TOPIC, "valueCanonical": one.topic.url} for one in topics.all()], **entry}
        if not entry["extension"]:
            del entry["extension"]
    if profiles:
        entry["supportedProfile"] = sorted(profiles)
    includes = [f"{type}:{parameter.code}" for parameter in parameters if parameter.type == "reference"]
    if includes:
        entry["searchInclude"] = ["*", *includes]
    if reverse:
        entry["searchRevInclude"] = ["*", *sorted(reverse)]
    entry["searchParam"] = [*_shared_parameters(context), *(_parameter(parameter) for parameter in parameters)]
    operations = _operations(context, type)
    if operations:
        entry["operation"] = operations
    return entry


def statement(context: Context, base: str, started: int, mode: str = "full") -> dict[str, Any]:
    """The CapabilityStatement of this server under `base`; `started`: milliseconds since 1970."""
    reverse = _reverse_includes(context)
    types = [type for type in context.definitions.resource_types if mode != "normative" or type in _NORMATIVE]
    rest: dict[str, Any] = {
        "mode": "server",
        "documentation": _SERVED,
        "security": {"cors": True, "description": "No authorization: this server listens on its own machine only."},
        "resource": [_resource(context, type, reverse[type]) for type in types],
        "interaction": [{"code": interaction.code} for interaction in INTERACTIONS if interaction.level == "system"],
    }
    rest["searchParam"] = _shared_parameters(context)
    operations = _operations(context, "")
    if operations:
        rest["operation"] = operations
    rest["compartment"] = [f"http://hl7.org/fhir/CompartmentDefinition/{name.lower()}" for name in COMPARTMENTS]
    return {
        "resourceType": "CapabilityStatement",
        "id": "fhir-server",
        "name": "FhirServer",
        "title": "FHIR R4 server",
        **about(base, started),
        **({"instantiates": [_TOPIC_SERVER]} if context.parts.get("topics") else {}),
        "fhirVersion": "4.0.1",
        "format": list(FORMATS),
        "patchFormat": list(PATCH_FORMATS),
        "rest": [rest],
    }


class Statements:
    """Rendered CapabilityStatements by base URL and mode, made when first asked for, and again when the search parameters have changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = context.clock()
        self._bodies: dict[tuple[str, str], bytes] = {}
        self._generation = self._now()

    def _now(self) -> tuple[int, int]:
        """What the statements are made of changes with search parameters, profiles and code systems."""
        validating, topics = self._context.parts.get("validating"), self._context.parts.get("topics")
        return self._context.search.generation, (validating.changes if validating else 0) + (topics.generation if topics else 0)

    def body(self, base: str, mode: str) -> bytes:
        """The statement as bytes."""
        now = self._now()
        if self._generation != now:
            self._generation = now
            self._bodies.clear()
        body = self._bodies.get((base, mode))
        if body is None:
            made = (
                terminology_statement(self._context, base, self._started)
                if mode == "terminology"
                else statement(self._context, base, self._started, mode)
            )
            body = orjson.dumps(made)
            if len(self._bodies) < 8:
                self._bodies[(base, mode)] = body
        return body

    @property
    def tag(self) -> str:
        """An entity tag that changes when the server is started anew, and with the search parameters and profiles of the site."""
        parameters, profiles = self._now()
        return f'W/"{__version__}-{self._started}-{parameters}-{profiles}"'


async def capabilities(context: Context, request: Request) -> Response:
    """The CapabilityStatement, or with mode=terminology the TerminologyCapabilities. Raises FhirError 400 (unknown mode)."""
    found = pairs(request.query) if request.query else []
    mode = "full"
    for name, value in found:
        if name == "mode":
            mode = value
        elif name not in PRESENTATION and preferences(request).strict:
            raise FhirError.of(
                400,
                "not-supported",
                f"Parameter '{name[:80]}' is not known here; metadata has mode, _format, _pretty, _summary and _elements",
                zh=f"metadata 不支持参数“{name[:80]}”；可用：mode、_format、_pretty、_summary、_elements",
            )
    if mode not in _MODES:
        what = f"mode={mode[:80]} is not one of {', '.join(_MODES)}"
        raise FhirError.of(400, "value", what, zh=f"mode={mode[:80]} 应为 {'、'.join(_MODES)} 之一")
    for name in ("validating", "topics"):
        if part := context.parts.get(name):
            try:
                await part.fresh()
            except FhirError as fault:
                if fault.status != 503:  # the index is being made anew; what the server can do is told all the same
                    raise
    statements: Statements = context.parts.get("statements") or context.parts.setdefault("statements", Statements(context))
    headers = [("ETag", statements.tag)]
    known = request.headers.get("if-none-match")
    if known is not None and not found:
        tags = parse_tags(known)
        if tags is None or parse_tags(statements.tag) == tags:
            return Response(304, b"", headers)
    body = statements.body(request.base, mode)
    how = presentation(found)
    return Response(200, present(context, body, how), headers)
