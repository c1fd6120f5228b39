"""The response Bundle of a batch or transaction, spliced from the entries' prepared answers without parsing them.

Specification: https://hl7.org/fhir/R4/http.html#transaction-response, https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions.errors import render
from fhir_server.interactions.headers import etag
from fhir_server.interactions.http import FHIR_JSON, Response
from fhir_server.model.dates import format_instant

_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_OUTCOME = b'{"resourceType":"OperationOutcome"'


def bundle_answer(kind: str, answers: Iterable[bytes]) -> Response:
    """The response: `kind` is batch-response or transaction-response, `answers` come from `entry_answer` in the order of the request."""
    body = b",".join(answers)
    head = b'{"resourceType":"Bundle","type":"%s"' % kind.encode()
    return Response(200, b'%s,"entry":[%s]}' % (head, body) if body else head + b"}")


async def entry_answer(response: Response, base: str) -> bytes:
    """One entry of the response Bundle: status, location, etag, lastModified, and the content where there is one.

    An OperationOutcome goes to `response.outcome`, any other resource to `resource` with its fullUrl.
    """
    if response.stream is not None:
        response.body, response.stream = b"".join([chunk async for chunk in response.stream]), None
    return whole_entry(response, base)


def whole_entry(response: Response, base: str) -> bytes:
    """The entry of an answer that is not streamed."""
    body, told = response.body, _told(response)
    if not body or response.media_type.partition(";")[0] != FHIR_JSON.partition(";")[0]:
        return b'{"response":{%s}}' % told
    if response.status >= 400 or body.startswith(_OUTCOME):
        return b'{"response":{%s,"outcome":%s}}' % (told, body)
    full_url = b""
    if response.stored is not None:
        full_url = b'"fullUrl":%s,' % orjson.dumps(f"{base}/{response.stored.type}/{response.stored.id}")
    return b'{%s"resource":%s,"response":{%s}}' % (full_url, body, told)


def failed_entry(error: FhirError, headers: dict[str, str]) -> bytes:
    """The entry of a batch that could not be done: its status and OperationOutcome."""
    answer = render(error, headers)
    return b'{"response":{"status":"%s","outcome":%s}}' % (_status(answer.status), answer.body)


def _status(status: int) -> bytes:
    return _STATUS.get(status, str(status)).encode()


def _told(response: Response) -> bytes:
    """The members of `entry.response`. A deletion has no location: there is nothing to read at it."""
    stored = response.stored
    if stored is None:
        return b'"status":"%s"' % _status(response.status)
    location = "" if stored.deleted or response.status >= 400 else f'"location":"{stored.type}/{stored.id}/_history/{stored.version}",'
    tag = etag(stored.version).replace('"', '\\"')
    text = f'"status":"{_status(response.status).decode()}",{location}"etag":"{tag}","lastModified":"{_instant(stored.updated)}"'
    return text.encode()


_instant = lru_cache(maxsize=64)(format_instant)
"""The entries of one transaction have one time."""
