"""$fhirpath: evaluates an expression on a resource, with the parameters of the public FHIRPath Lab servers.

Specification: https://github.com/brianpos/fhirpath-lab/blob/develop/server-api.md, http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fhir_server import __version__
from fhir_server.errors import FhirError
from fhir_server.fhirpath import Expression, FhirPathError, FhirPathSyntaxError, Item, compile_expression, focus
from fhir_server.interactions.content import parsed
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.validating import Validating
from fhir_server.model import json_codec
from fhir_server.model.definitions import definitions
from fhir_server.model.references import parse_reference
from fhir_server.operations.fhirpath_answer import result_part

JSON_VALUE = "http://fhir.forms-lab.com/StructureDefinition/json-value"
XML_VALUE = "http://fhir.forms-lab.com/StructureDefinition/xml-value"
_ROUNDS, _REFERENCES = 8, 500
_LIMIT_CONTEXTS = 1000


@dataclass(slots=True)
class Question:
    """What is asked: expression, where it starts (`context`), on what, with which variables; `strict`: unknown names are errors."""

    expression: str
    resource: dict[str, Any] | None = None
    context: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    strict: bool = True
    echoed: list[dict[str, Any]] = field(default_factory=list)


def _refuse(what: str, zh: str, place: int | None = None) -> FhirError:
    expression = () if place is None else (f"Parameters.parameter[{place}]",)
    return FhirError.of(400, "invalid", what, *expression, zh=zh)


def _objects(value: Any, name: str, place: int | None = None) -> list[dict[str, Any]]:
    """The rows of `parameter`, `part` or `extension`; none where it is not there. Raises FhirError 400 for anything but JSON objects."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise _refuse(f"'{name}' must be an array of JSON objects", f"“{name}”必须是 JSON 对象的数组", place)
    return value


def _text(parameter: dict[str, Any], place: int) -> str:
    value = parameter.get("valueString")
    if not isinstance(value, str):
        name = parameter.get("name")
        raise _refuse(f"The parameter '{name}' of $fhirpath needs a valueString", f"$fhirpath 的参数“{name}”需要 valueString", place)
    return value


def _value(parameter: dict[str, Any], place: int) -> Any:
    """The value of a parameter or part: an Item, a resource, what the json-value extension holds, or None."""
    if isinstance(parameter.get("resource"), dict):
        return parameter["resource"]
    for extension in _objects(parameter.get("extension"), "extension", place):
        url = extension.get("url")
        if url == JSON_VALUE:
            return json_codec.loads_any(str(extension.get("valueString", "")).encode())
        if url == XML_VALUE:
            what = "$fhirpath does not read XML; send the resource as JSON"
            at = f"Parameters.parameter[{place}]"
            raise FhirError.of(501, "not-supported", what, at, zh="$fhirpath 不读取 XML，请以 JSON 发送资源")
    by_json = definitions().types["Parameters.parameter"].by_json
    for name, value in parameter.items():
        if name.startswith("value") and name in by_json:
            beside = parameter.get("_" + name)
            return focus(value, by_json[name][1], beside if isinstance(beside, dict) else None)
    return None


def _resource(parameter: dict[str, Any], place: int) -> dict[str, Any] | None:
    """The resource as such, in the json-value extension, or as JSON in a valueString."""
    value = _value(parameter, place)
    if isinstance(value, Item):
        if value.type != "string":
            what = f"The parameter 'resource' of $fhirpath is a resource or JSON in a string, not a {value.type}"
            raise _refuse(what, f"$fhirpath 的参数“resource”须为资源或字符串形式的 JSON，而不是 {value.type}", place)
        value = json_codec.loads_any(str(value.value).encode()) if value.value else None
    if value is not None and not isinstance(value, dict):
        what = "The parameter 'resource' of $fhirpath must be a JSON object"
        raise _refuse(what, "$fhirpath 的参数“resource”须为 JSON 对象", place)
    return value


def _question(content: Any) -> Question:
    """The question in a Parameters resource. Raises FhirError 400."""
    if not isinstance(content, dict) or content.get("resourceType") != "Parameters":
        what = "$fhirpath needs a Parameters resource with 'expression' and 'resource'"
        raise _refuse(what, "$fhirpath 需要含“expression”和“resource”的 Parameters 资源")
    asked = Question("")
    seen = False
    for place, parameter in enumerate(_objects(content.get("parameter"), "parameter")):
        name = parameter.get("name")
        if name == "expression":
            asked.expression, seen = _text(parameter, place), True
        elif name == "context":
            asked.context = _text(parameter, place) or None
        elif name == "resource":
            asked.resource = _resource(parameter, place)
        elif name == "validate":
            asked.strict = parameter.get("valueBoolean") is not False
        elif name == "variables":
            for part in _objects(parameter.get("part"), "part", place):
                asked.variables[str(part.get("name"))] = _value(part, place)
        elif name == "terminologyserver":
            continue
        else:
            raise _refuse(f"$fhirpath has no parameter '{name}'", f"$fhirpath 没有参数“{name}”", place)
        if name != "validate":
            asked.echoed.append(parameter)
    if not seen:
        raise _refuse("$fhirpath needs the parameter 'expression'", "$fhirpath 缺少参数“expression”")
    return asked


def _compiled(text: str, what: str) -> Expression:
    try:
        return compile_expression(text, strict=True)
    except FhirPathSyntaxError as fault:
        raise _at(fault, text, what) from None


def _at(fault: FhirPathSyntaxError, text: str, what: str) -> FhirError:
    line = text.count("\n", 0, fault.position) + 1
    column = fault.position - (text.rfind("\n", 0, fault.position) + 1) + 1
    english = f"The {what} is no valid FHIRPath: {fault.reason} (line {line}, column {column})"
    name = {"expression": "表达式", "context": "上下文"}[what]
    return FhirError.of(400, "invalid", english, zh=f"{name}不是有效的 FHIRPath：{fault.reason_zh}（第 {line} 行第 {column} 列）")


def _types(asked: Question, expression: Expression, context: Expression | None) -> frozenset[str] | None:
    """Check names and order strictly; the types that can come out. Raises FhirError 400."""
    root = (asked.resource or {}).get("resourceType")
    root = root if isinstance(root, str) and root in definitions().types else None
    start: frozenset[str] | None = frozenset()
    try:
        if context is not None:
            start = context.check(root, check_order=True)
    except FhirPathSyntaxError as fault:
        raise _at(fault, context.text if context else "", "context") from None
    try:
        return expression.check(root, context=start, check_order=True)
    except FhirPathSyntaxError as fault:
        raise _at(fault, expression.text, "expression") from None


class _Store:
    """What resolve() needs of the store: the evaluation notes what is missing, it is loaded, and the evaluation starts again."""

    def __init__(self, context: Context, request: Request) -> None:
        self._context, self._request = context, request
        self._known: dict[str, dict[str, Any] | None] = {}
        self._missing: dict[str, tuple[str, str]] = {}
        self._validating: Validating = context.parts["validating"]

    async def fresh(self) -> None:
        """Take up the value sets and profiles that were written since."""
        await self._validating.fresh()

    @property
    def ports(self) -> dict[str, Any]:
        """What an evaluation may ask: references, value sets and code systems, profiles."""
        room = self._validating.room
        return {"resolve": self.resolve, "terminology": room.terms.member, "conforms": self._conforms}

    def _conforms(self, value: Any, profile: str) -> bool | None:
        room = self._validating.room
        return None if room.profile(profile) is None else room.conforms(value, profile, self.resolve)

    def resolve(self, reference: str) -> dict[str, Any] | None:
        """The resource if it is loaded, else None; a reference into this server is noted for `load`."""
        if reference not in self._known and reference not in self._missing:
            found = parse_reference(reference)
            own = found.form == "relative" or (found.form == "absolute" and found.base == self._request.base)
            if own and found.type in self._context.types and len(self._known) + len(self._missing) < _REFERENCES:
                self._missing[reference] = found.type, found.id
        return self._known.get(reference)

    async def load(self) -> bool:
        """Load what was missing, as far as the principal may see it; whether there was anything."""
        if not self._missing:
            return False
        found = await self._context.gate.read_many(self._request.principal, list(dict.fromkeys(self._missing.values())))
        loaded = {(stored.type, stored.id): json_codec.loads(stored.body) for stored in found if not stored.deleted and stored.body}
        for reference, address in self._missing.items():
            self._known[reference] = loaded.get(address)
        self._missing = {}
        return True


def _results(asked: Question, expression: Expression, context: Expression | None, store: _Store) -> list[dict[str, Any]]:
    """The `result` parameters: one for each context. Raises FhirPathError."""
    if context is None:
        traces: list[tuple[str, list[Item]]] = []
        found = expression.evaluate(asked.resource, variables=asked.variables, **store.ports, traces=traces)
        return [result_part(None, found, traces)]
    starts = context.evaluate(asked.resource, variables=asked.variables, **store.ports)
    if len(starts) > _LIMIT_CONTEXTS:
        what = f"the context gives {len(starts)} items; at most {_LIMIT_CONTEXTS} are evaluated"
        raise FhirPathError(what, f"上下文得到 {len(starts)} 个项，最多求值 {_LIMIT_CONTEXTS} 个")
    parts = []
    for number, start in enumerate(starts):
        traces = []
        found = expression.evaluate(asked.resource, context=start, variables=asked.variables, **store.ports, traces=traces)
        parts.append(result_part(f"{asked.context}[{number}]", found, traces))
    return parts


async def _evaluated(asked: Question, expression: Expression, context: Expression | None, store: _Store) -> list[dict[str, Any]]:
    for _ in range(_ROUNDS):
        fault: FhirPathError | None = None
        results: list[dict[str, Any]] = []
        try:
            # An expression may calculate for a while: not on the loop that answers everybody.
            results = await asyncio.to_thread(_results, asked, expression, context, store)
        except FhirPathError as error:
            fault = error
        if await store.load():
            continue
        if fault is not None:
            what = f"The expression cannot be evaluated on this resource: {fault}"
            raise FhirError.of(422, "processing", what, zh=f"表达式无法在此资源上求值：{fault.zh}")
        return results
    what = f"resolve() goes on after {_ROUNDS} rounds of loading"
    raise FhirError.of(422, "too-costly", what, zh=f"resolve() 在 {_ROUNDS} 轮加载之后仍未结束")


async def fhirpath(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """A Parameters resource: `parameters` echoes the question, each `result` holds the values for one context.

    Raises FhirError 400 (no FHIRPath, unknown names; with position), 422 (cannot be evaluated on this resource).
    """
    asked = _question(parsed(request))
    expression = _compiled(asked.expression, "expression")
    start = _compiled(asked.context, "context") if asked.context else None
    types = _types(asked, expression, start) if asked.strict else None
    store = _Store(context, request)
    await store.fresh()
    results = await _evaluated(asked, expression, start, store)
    about: list[dict[str, Any]] = [{"name": "evaluator", "valueString": f"fhir-server {__version__} (R4)"}]
    if types:
        about.append({"name": "expectedReturnType", "valueString": " | ".join(sorted(types))})
    answer = {
        "resourceType": "Parameters",
        "id": "fhirpath",
        "parameter": [{"name": "parameters", "part": [*about, *asked.echoed]}, *results],
    }
    return Response(200, json_codec.dumps(answer))


OPERATION = Operation(
    name="fhirpath",
    handler=fhirpath,
    policy="fhirpath",
    levels=frozenset({"system"}),
    methods=("POST",),
    definition="urn:fhir-server:OperationDefinition:fhirpath",
    title="Evaluate a FHIRPath expression",
)
