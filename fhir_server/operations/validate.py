"""`$validate`: would this resource be taken, and does it meet a profile? Nothing is stored.

Modes: `create` and `update` (the default is neither: the content alone), `delete` (would the resource of the address be deleted),
`profile` (against the named profile). The answer is always 200 with an OperationOutcome, also for content that cannot be read.
Specification: https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError, Issue, operation_outcome
from fhir_server.interactions.content import parsed
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.validating import Validating
from fhir_server.model import json_codec
from fhir_server.operations.inputs import Input, known, of_address

MODES = ("create", "update", "delete", "profile")
_NAMES = ("resource", "mode", "profile")


async def validate(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with an OperationOutcome. Raises FhirError 400 for parameters that the operation does not have."""
    given = of_address(request)
    known("validate", given, ("mode", "profile"), ("profile",))
    said, profiles = _text(given, "mode"), [one.text for one in given if one.name == "profile"]
    resource: Any = None
    unreadable: list[Issue] = []
    if request.method == "POST" and (request.body or request.resource is not None):
        try:
            resource = parsed(request)
        except FhirError as fault:
            if fault.status != 400:
                raise
            unreadable = fault.issues
    if isinstance(resource, dict) and resource.get("resourceType") == "Parameters" and type != "Parameters":
        resource, said, more = _parameters(resource, said)
        profiles += more
    mode = _mode(said)
    if mode == "profile" and not profiles:
        raise FhirError.of(400, "required", "mode=profile needs the parameter profile", "profile", zh="mode=profile 需要参数 profile")
    issues = unreadable or await _issues(context, request, resource, mode, profiles, type, id)
    return Response(200, json_codec.dumps(operation_outcome(issues, chinese=wants_chinese(request.headers))))


def _text(given: list[Input], name: str) -> str | None:
    return next((one.text for one in given if one.name == name), None)


def _mode(said: str | None) -> str | None:
    if said is not None and said not in MODES:
        what = f"mode={said[:80]} is not one of {', '.join(MODES)}"
        raise FhirError.of(400, "value", what, "mode", zh=f"mode={said[:80]} 无效，应为 {', '.join(MODES)}")
    return said


def _parameters(content: dict[str, Any], said: str | None) -> tuple[Any, str | None, list[str]]:
    """The resource, mode and profiles of a Parameters resource; one without a parameter `resource` is itself what is validated."""
    rows = content.get("parameter")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not any(row.get("name") in _NAMES for row in rows):
        return content, said, []
    resource, profiles = None, []
    taken: set[str] = set()
    for number, row in enumerate(rows):
        name, at = row.get("name"), f"Parameters.parameter[{number}]"
        if name not in _NAMES:
            what = f"Parameter '{str(name)[:80]}' is not known; $validate: it has {', '.join(_NAMES)}"
            raise FhirError.of(400, "not-supported", what, at, zh=f"$validate 不支持参数“{str(name)[:80]}”")
        if name in taken and name != "profile":
            raise FhirError.of(400, "value", f"The parameter '{name}' stands there twice", at, zh=f"参数 {name} 只能出现一次")
        taken.add(str(name))
        strange = [key for key in row if key not in ("name", "id", "extension", "resource") and not key.startswith(("value", "_value"))]
        if strange:
            what = f"The parameter '{name}' has the unknown element '{strange[0][:80]}'"
            raise FhirError.of(400, "structure", what, at, zh=f"参数 {name} 含有未知元素“{strange[0][:80]}”")
        if name == "resource":
            resource = row.get("resource")
            continue
        key, value = next(((key, value) for key, value in row.items() if key.startswith("value")), ("", None))
        if not isinstance(value, str) or not value:
            what = f"The parameter '{name}' needs a text, not {key}" if key else f"The parameter '{name}' needs a value"
            raise FhirError.of(
                400, "value" if key else "required", what, at, zh=f"参数 {name} 需要文本值" if key else f"参数 {name} 缺少值"
            )
        if name == "mode":
            said = value
        else:
            profiles.append(value)
    return resource, said, profiles


async def _issues(
    context: Context, request: Request, resource: Any, mode: str | None, profiles: list[str], type: str | None, id: str | None
) -> list[Issue]:
    if mode == "delete" or (resource is None and id is not None):
        stored = await context.gate.read(request.principal, type or "", id or "") if id else None
        if stored is None or stored.deleted:
            where, zh = (f"{type}/{id}", f"{type}/{id}") if id else ("the address names no resource", "地址中没有资源")
            return [Issue("not-found", f"There is no resource to look at: {where}", zh=f"没有可校验的资源：{zh}")]
        if mode == "delete":
            return []
        resource = json_codec.loads(stored.body)
    if resource is None:
        raise FhirError.of(
            400, "required", "$validate is sent a resource, by itself or as the parameter 'resource'", zh="$validate 需要一个资源"
        )
    faults = _misplaced(resource, mode, type, id)
    validating: Validating = context.parts["validating"]
    return faults + await validating.issues(request.principal, resource, profiles)


def _misplaced(resource: Any, mode: str | None, type: str | None, id: str | None) -> list[Issue]:
    """What would be wrong with the resource at this address."""
    if not isinstance(resource, dict):
        return []
    kind, own = resource.get("resourceType"), resource.get("id")
    found: list[Issue] = []
    if type and isinstance(kind, str) and kind != type:
        what = f"resourceType is '{kind}', but the address names {type}"
        found.append(Issue("invalid", what, (f"{kind}.resourceType",), zh=f"resourceType 为“{kind}”，但地址中是 {type}", rule="address"))
    if mode == "update" and own is None:
        what = f"{kind}.id: an update needs the id of the resource"
        found.append(Issue("required", what, (f"{kind}.id",), zh=f"{kind}.id：更新需要资源的 id", rule="address"))
    if mode == "update" and id is not None and own not in (None, id):
        what = f"{kind}.id is '{own}', but the address names {id}"
        found.append(Issue("invalid", what, (f"{kind}.id",), zh=f"{kind}.id 为“{own}”，但地址中是 {id}", rule="address"))
    return found


OPERATION = Operation(
    "validate",
    validate,
    "validate",
    frozenset({"system", "type", "instance"}),
    types=("", "*"),
    definition="http://hl7.org/fhir/OperationDefinition/Resource-validate",
    title="Would a resource be taken, and does it meet a profile?",
)
