"""The three sets of `Resource.meta`, profiles, tags and security labels: what is equal in them, and how they are changed.

Both operations make a new version where something changes. R4 leaves that open for instances ("adds … to the nominated resource");
HAPI rewrites the stored version in place. Here a version is written once: its ETag, its copies with subscribers and the history stay
true, and who changed a security label can be seen. For the same reason labels of an older version cannot be changed.
Specification: https://hl7.org/fhir/R4/resource-operation-meta-add.html, https://hl7.org/fhir/R4/resource-operation-meta-delete.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.content import checked, without_server_meta
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.plan import PlannedWrite, Seen, perform
from fhir_server.interactions.preconditions import precondition
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.update import demand_if_match
from fhir_server.model import json_codec
from fhir_server.operations.inputs import inputs, known
from fhir_server.storage.port import Outcome, Stored, Write

SETS = ("profile", "security", "tag")


def identity(value: Any) -> tuple[str, str]:
    """What makes two entries of a set the same: system and code of a label, the whole URL of a profile."""
    if isinstance(value, dict):
        return str(value.get("system", "")), str(value.get("code", ""))
    return "", str(value)


def added(meta: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`meta` with what of `more` is not there yet; what is there keeps its version and display."""
    result = dict(meta)
    for name in SETS:
        kept = {identity(value): value for value in reversed(meta.get(name) or ())}
        fresh = {identity(value): value for value in reversed(more.get(name) or ()) if identity(value) not in kept}
        if fresh:
            result[name] = [*(meta.get(name) or ()), *reversed(fresh.values())]
    return result


def without(meta: dict[str, Any], less: dict[str, Any]) -> dict[str, Any]:
    """`meta` without what `less` names; it is no error where that is not there."""
    result = dict(meta)
    for name in SETS:
        unwanted = {identity(value) for value in less.get(name) or ()}
        left = [value for value in meta.get(name) or () if identity(value) not in unwanted]
        if left:
            result[name] = left
        else:
            result.pop(name, None)
    return result


def _meta_of(operation: str, request: Request) -> dict[str, Any]:
    """The parameter `meta`. Raises FhirError 400."""
    given = inputs(request)
    known(operation, given, ("meta",))
    if not given:
        raise FhirError.of(
            400,
            "required",
            f"${operation} needs the parameter 'meta' (a valueMeta)",
            "Parameters.parameter",
            zh=f"${operation} 需要参数“meta”（valueMeta）",
        )
    value = given[0].value
    if given[0].kind != "Meta":
        raise given[0].refused(f"${operation} takes a valueMeta", f"${operation} 需要 valueMeta")
    for name in SETS:
        for number, one in enumerate(value.get(name) or ()):
            if one is None or (isinstance(one, dict) and "code" not in one):
                where = f"{given[0].at}.value.{name}[{number}]"
                raise FhirError.of(
                    400,
                    "required",
                    f"meta.{name}[{number}] has no code; system and code identify a label",
                    where,
                    zh=f"meta.{name}[{number}] 没有 code；标签由 system 和 code 确定",
                )
    return dict(value)


async def change(
    operation: str,
    apply: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    context: Context,
    request: Request,
    type: str,
    id: str,
) -> Stored:
    """Change the sets of the current version inside one transaction; the version that is current then.

    Raises FhirError 400, 404, 410, 412 (If-Match), 422, 428.
    """
    given = _meta_of(operation, request)
    must = precondition(request)

    def decide(seen: Seen) -> list[Write]:
        current = seen.current.get((type, id))
        if current is None:
            raise unknown(type, id)
        if current.deleted:
            raise gone(current)
        must.check(type, id, current)
        demand_if_match(context, must, type, id, current)
        resource = json_codec.loads(current.body)
        before = resource.get("meta") or {}
        resource["meta"] = apply(before, given)
        without_server_meta(resource)
        return [Write("PUT", type, id, checked(context, resource), current.version)]

    def answer(seen: Seen, outcomes: Sequence[Outcome]) -> Response:
        return Response(stored=outcomes[0].stored)

    done = await perform(context, request, PlannedWrite("update", type, id, None, decide, answer, (), ((type, id),)))
    assert done.stored is not None
    return await context.gate.leaving(request.principal, done.stored)
