"""$diff: what changed between two versions, or two resources of one type, as a FHIRPath Patch.

Specification: https://hapifhir.io/hapi-fhir/docs/server_jpa/diff.html, https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

import asyncio
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.vread import unknown_version
from fhir_server.model import json_codec
from fhir_server.model.references import parse_reference
from fhir_server.operations.diff_patch import diff_patch
from fhir_server.operations.inputs import Input, inputs, known
from fhir_server.operations.meta import current
from fhir_server.storage.port import Stored


async def _version(context: Context, request: Request, type: str, id: str, version: str) -> Stored:
    plain = version.isascii() and version.isdigit() and len(version) <= 18
    stored = await context.gate.read_version(request.principal, type, id, int(version)) if plain else None
    if stored is None:
        raise unknown_version(type, id, version)
    if stored.deleted:
        raise gone(stored)
    return stored


async def _previous(context: Context, request: Request, newer: Stored) -> Stored:
    """The version before, a deletion passed over. Raises FhirError 404."""
    for version in (newer.version - 1, newer.version - 2):
        stored = await context.gate.read_version(request.principal, newer.type, newer.id, version) if version > 0 else None
        if stored is not None and not stored.deleted:
            return stored
    raise FhirError.of(
        404,
        "not-found",
        f"{newer.type}/{newer.id} has no version before {newer.version}; name one with fromVersion",
        zh=f"{newer.type}/{newer.id} 在版本 {newer.version} 之前没有其他版本；请用 fromVersion 指明一个",
    )


async def _referred(context: Context, request: Request, given: Input) -> Stored:
    """What `from` or `to` names: Type/id or Type/id/_history/version. Raises FhirError 400, 404, 410."""
    text = given.value.get("reference") if isinstance(given.value, dict) else given.value
    found = parse_reference(str(text))
    own = found.within((request.base, *context.own_bases))
    if not own or found.type not in context.types:
        raise given.refused(
            "must be Type/id or Type/id/_history/version of this server", "应为本服务器的 Type/id 或 Type/id/_history/version"
        )
    if found.version:
        return await _version(context, request, found.type, found.id, found.version)
    stored = await context.gate.read(request.principal, found.type, found.id)
    if stored is None:
        raise unknown(found.type, found.id)
    if stored.deleted:
        raise gone(stored)
    return stored


def _with_meta(given: dict[str, Input]) -> bool:
    asked = given.get("includeMeta")
    if asked is None:
        return False
    if asked.text not in ("true", "false"):
        raise asked.refused("must be true or false", "应为 true 或 false")
    return asked.text == "true"


def _difference(older: Stored, newer: Stored, with_meta: bool) -> dict[str, Any]:
    before, after = json_codec.loads(older.body), json_codec.loads(newer.body)
    if not with_meta:
        before.pop("meta", None)
        after.pop("meta", None)
    return diff_patch(before, after)


async def diff(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """Parameters, a FHIRPath Patch from the older to the newer one; `meta` only with includeMeta=true.

    Raises FhirError 400 (parameters, two types), 404, 410.
    """
    found = inputs(request)
    given = {one.name: one for one in found}
    if type and id:
        known("diff", found, ("fromVersion", "includeMeta"))
        with_meta = _with_meta(given)
        newer = await current(context, request, type, id)
        asked = given.get("fromVersion")
        if asked is not None and not (asked.text.isascii() and asked.text.isdigit()):
            raise asked.refused("must be the number of a version", "应为版本号")
        older = await (_version(context, request, type, id, asked.text) if asked else _previous(context, request, newer))
    else:
        known("diff", found, ("from", "to", "includeMeta"))
        with_meta = _with_meta(given)
        for name in ("from", "to"):
            if name not in given:
                raise FhirError.of(
                    400, "required", f"$diff on system level needs the parameter '{name}'", zh=f"在系统级别，$diff 需要参数“{name}”"
                )
        older = await _referred(context, request, given["from"])
        newer = await _referred(context, request, given["to"])
        if older.type != newer.type:
            raise given["to"].refused(
                f"from is a {older.type}, to a {newer.type}; only resources of one type are compared",
                f"from 是 {older.type}，to 是 {newer.type}；只能比较同一类型的资源",
            )
    # Long lists take a while to compare: not on the loop that answers everybody.
    return Response(200, json_codec.dumps(await asyncio.to_thread(_difference, older, newer, with_meta)))


OPERATION = Operation(
    name="diff",
    handler=diff,
    policy="diff",
    levels=frozenset({"system", "instance", "version"}),
    types=("*",),
    definition="http://hapifhir.io/fhir/OperationDefinition/diff",
    title="Differences as a FHIRPath Patch",
)
