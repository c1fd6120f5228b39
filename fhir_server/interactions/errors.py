"""The one place where errors become answers.

Specification: https://hl7.org/fhir/R4/http.html#Status-Codes, https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

import orjson

from fhir_server.errors import FhirError
from fhir_server.interactions.http import Response
from fhir_server.terminology.displays import wanted


def wants_chinese(headers: dict[str, str]) -> bool:
    """Whether Chinese is what the client likes best of the languages that it accepts and that are spoken here."""
    spoken = (tag for tag in wanted(headers.get("accept-language", "")) if tag.startswith(("zh", "en")))
    return next(spoken, "").startswith("zh")


def render(error: FhirError, headers: dict[str, str] | None = None) -> Response:
    """The error as an answer with an OperationOutcome, in the language of the request's `headers`."""
    body = orjson.dumps(error.outcome(chinese=bool(headers) and wants_chinese(headers or {})))
    return Response(error.status, body, list(error.headers))


def unexpected(reference: str) -> FhirError:
    """What a client learns of a fault of the server itself: a reference under which the log tells more."""
    return FhirError.of(
        500,
        "exception",
        f"The server failed to answer this request; the log tells more under the reference {reference}",
        zh=f"服务器未能完成此请求；日志中以编号 {reference} 记有详情",
    )
