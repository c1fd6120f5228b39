"""Composition/$document: a document Bundle of a Composition and all that it refers to, directly or through others.

What cannot be found here is left out, as in other servers, and named in the answer's Warning header.
Specification: https://hl7.org/fhir/R4/composition-operation-document.html, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.create import create
from fhir_server.interactions.headers import instant
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import gone, unknown
from fhir_server.interactions.registration import Operation
from fhir_server.model import json_codec
from fhir_server.model.references import ID, parse_reference, references_in
from fhir_server.operations.inputs import Input, inputs, known

MOST = 2000
"""Most resources of a document."""
_NAMES = ("id", "persist", "graph")
_NAMED = 20
"""Most missing references that the Warning header names."""


class _Document:
    """The resources gathered so far, in the order of their discovery, and the references that led nowhere."""

    def __init__(self, context: Context, request: Request) -> None:
        self._context, self._request = context, request
        self._bases = (request.base, *context.own_bases)
        self.entries: list[dict[str, Any]] = []
        self.missing: dict[str, None] = {}
        self._known: set[tuple[str, str]] = set()

    def _places(self, content: dict[str, Any]) -> dict[tuple[str, str], str]:
        """Local resources that this one refers to, with the reference's text; other forms are noted as missing."""
        found: dict[tuple[str, str], str] = {}
        for reference in references_in(content):
            to = parse_reference(reference["reference"])
            local = to.within(self._bases)
            if local and to.type in self._context.types:
                found[(to.type, to.id)] = to.text
            elif to.form != "fragment":
                self.missing[to.text] = None
        return found

    async def gather(self, composition: dict[str, Any]) -> None:
        """Follow references level by level. Raises FhirError 422 where the document grows too large."""
        self._known.add(("Composition", composition["id"]))
        self.entries.append(composition)
        level, direct = [composition], True
        while level:
            wanted: dict[tuple[str, str], str] = {}
            for content in level:
                # A Patient's links lead to other people's records.
                wanted |= self._places(
                    {name: value for name, value in content.items() if name != "link" or content["resourceType"] != "Patient"}
                )
            wanted = {place: text for place, text in wanted.items() if place not in self._known and (direct or place[0] != "Patient")}
            if len(self._known) + len(wanted) > MOST:
                raise FhirError.of(
                    422,
                    "too-costly",
                    f"The Composition leads to more than {MOST} resources",
                    "Composition",
                    zh=f"此 Composition 牵涉的资源超过 {MOST} 个",
                )
            self._known |= set(wanted)
            read = await self._context.gate.read_many(self._request.principal, list(wanted)) if wanted else []
            by_place = {(one.type, one.id): one for one in read if not one.deleted}
            self.missing |= dict.fromkeys(text for place, text in wanted.items() if place not in by_place)
            level = [json_codec.loads(by_place[place].body) for place in wanted if place in by_place]
            self.entries += level
            direct = False

    def bundle(self, now: int) -> dict[str, Any]:
        """The document; `now` in milliseconds since 1970."""
        base = self._request.base
        entries = [{"fullUrl": f"{base}/{one['resourceType']}/{one['id']}", "resource": one} for one in self.entries]
        identifier = {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.uuid4()}"}
        return {"resourceType": "Bundle", "identifier": identifier, "type": "document", "timestamp": instant(now), "entry": entries}

    def warning(self) -> list[tuple[str, str]]:
        """The header that names what is left out."""
        if not self.missing:
            return []
        names = [
            text[:100].encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/") for text in list(self.missing)[:_NAMED]
        ]
        names = ["".join(letter if letter.isprintable() else " " for letter in name) for name in names]
        more = f" and {len(self.missing) - _NAMED} more" if len(self.missing) > _NAMED else ""
        return [("Warning", f'299 - "Not found here and left out: {", ".join(names)}{more}"')]


def _composition_id(context: Context, request: Request, given: Input | None) -> str:
    """The id that the parameter names: an id, a reference or a URL of this server. Raises FhirError 400."""
    if given is None:
        raise FhirError.of(
            400,
            "required",
            "On type level $document needs the parameter 'id' of a Composition",
            "id",
            zh="在类型级别，$document 需要参数“id”，即某个 Composition 的 id",
        )
    text = given.text
    if ID.match(text):
        return text
    to = parse_reference(text)
    if to.type != "Composition" or (to.form == "absolute" and to.base not in (request.base, *context.own_bases)):
        raise given.refused("must be the id or the URL of a Composition of this server", "应为本服务器上某个 Composition 的 id 或 URL")
    return to.id


async def document(context: Context, request: Request, type: str, id: str | None) -> Response:
    """The document Bundle; with persist=true it is stored too, and Location names it.

    Raises FhirError 400, 404, 405 (persist without POST), 410 (the Composition was deleted), 415, 422 (too large), 501 (graph).
    """
    found = {one.name: one for one in inputs(request)}
    known("document", inputs(request), _NAMES)
    if "graph" in found:
        raise FhirError.of(
            501,
            "not-supported",
            f"graph={found['graph'].text[:80]}: GraphDefinitions are not followed; leave it out",
            "graph",
            zh=f"graph={found['graph'].text[:80]}：不支持按 GraphDefinition 收集资源；请去掉此参数",
        )
    if id is not None and "id" in found:
        raise found["id"].refused("the address names the Composition already", "地址中已经指明了 Composition")
    persist = found["persist"].text if "persist" in found else "false"
    if persist not in ("true", "false"):
        raise found["persist"].refused("must be true or false", "应为 true 或 false")
    if persist == "true" and request.method != "POST":
        said = f"persist=true stores a Bundle, which {request.method} must not: send it with POST"
        raise FhirError.of(
            405,
            "not-supported",
            said,
            "persist",
            headers=[("Allow", "POST, OPTIONS")],
            zh=f"persist=true 会保存一个 Bundle，而 {request.method} 不能这样做：请用 POST 发送",
        )
    id = id or _composition_id(context, request, found.get("id"))
    stored = await context.gate.read(request.principal, type, id)
    if stored is None:
        raise unknown(type, id)
    if stored.deleted:
        raise gone(stored)
    gathered = _Document(context, request)
    await gathered.gather(json_codec.loads(stored.body))
    content = json_codec.dumps(gathered.bundle(context.clock()))
    if persist == "false":
        return Response(200, content, gathered.warning())
    context.gate.require(request.principal, "create")
    headers = {"content-type": "application/fhir+json", "prefer": "return=representation"}
    made = await create(
        context, Request("POST", "Bundle", headers=headers, body=content, base=request.base, principal=request.principal), "Bundle"
    )
    place = f"{request.base}/Bundle/{orjson.loads(made.body)['id']}"
    return Response(200, made.body, [("Location", place), *gathered.warning()], stored=made.stored)


OPERATION = Operation(
    name="document",
    handler=document,
    policy="document",
    levels=frozenset({"type", "instance"}),
    types=("Composition",),
    definition="http://hl7.org/fhir/OperationDefinition/Composition-document",
    title="A Composition as a document",
    affects_state=True,
)
