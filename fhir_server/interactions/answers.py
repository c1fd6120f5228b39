"""Answers about one version of a resource: bytes as stored, with their headers.

Specification: https://hl7.org/fhir/R4/http.html#read, https://hl7.org/fhir/R4/http.html#return
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from fhir_server.errors import Issue, operation_outcome
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.headers import etag, http_date
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.prefer import Preferences
from fhir_server.storage.port import Stored


def version_url(request: Request, stored: Stored) -> str:
    """The absolute URL of this version."""
    return f"{request.base}/{stored.type}/{stored.id}/_history/{stored.version}"


def shown(stored: Stored) -> Response:
    """200 with the version's bytes."""
    return Response(
        200,
        stored.body,
        [("ETag", etag(stored.version)), ("Last-Modified", http_date(stored.updated))],
        stored=stored,
    )


_SENTENCES = {
    "created": ("{0}/{1} was created as version {2}", "{0}/{1} 已创建，版本为 {2}"),
    "updated": ("{0}/{1} was updated to version {2}", "{0}/{1} 已更新为版本 {2}"),
    "unchanged": ("{0}/{1} already has this content; version {2} stays", "{0}/{1} 的内容没有变化；版本仍为 {2}"),
    "exists": ("{0}/{1} meets the criteria already; nothing was created", "{0}/{1} 已符合条件；没有创建新资源"),
    "deleted": ("{0}/{1} was deleted", "{0}/{1} 已删除"),
}


def _sentence(result: str, stored: Stored) -> Issue:
    said, zh = (text.format(stored.type, stored.id, stored.version) for text in _SENTENCES[result])
    return Issue("informational", said, severity="information", zh=zh)


def written(request: Request, prefer: Preferences, result: str, stored: Stored) -> Response:
    """The answer to a create, update or patch: 201 where something was created, else 200; content as the client prefers.

    `result`: created, updated, unchanged or exists (a conditional create that found its match).
    """
    location = version_url(request, stored)
    headers = [("ETag", etag(stored.version)), ("Last-Modified", http_date(stored.updated))]
    headers.append(("Location" if result in ("created", "exists") else "Content-Location", location))
    if prefer.representation == "representation":
        body = stored.body
    elif prefer.representation == "minimal":
        body = b""
    else:
        body = orjson.dumps(operation_outcome([_sentence(result, stored)], chinese=wants_chinese(request.headers)))
    return Response(201 if result == "created" else 200, body, headers, stored=stored, result=result)


def removed(request: Request, prefer: Preferences, deletions: Sequence[Stored]) -> Response:
    """The answer to a delete: 204, or 200 with an OperationOutcome where the client prefers that. `deletions`: the new versions, if any."""
    headers = [("ETag", etag(deletions[0].version))] if len(deletions) == 1 else []
    stored = deletions[0] if len(deletions) == 1 else None
    result = "deleted" if deletions else "unchanged"
    if prefer.representation != "OperationOutcome":
        return Response(204, b"", headers, stored=stored, result=result)
    nothing = Issue("informational", "There was nothing to delete", severity="information", zh="没有可删除的资源")
    issues = [_sentence("deleted", gone) for gone in deletions] or [nothing]
    body = orjson.dumps(operation_outcome(issues, chinese=wants_chinese(request.headers)))
    return Response(200, body, headers, stored=stored, result=result)
