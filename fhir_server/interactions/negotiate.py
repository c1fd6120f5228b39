"""Which formats are read and written: JSON and XML, the rest refused by name.

Specification: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/http.html#parameters (_format)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias

from fhir_server.errors import FhirError

Form: TypeAlias = Literal["json", "xml"]

_JSON = frozenset({"application/fhir+json", "application/json", "text/json", "json"})
_XML = frozenset({"application/fhir+xml", "application/xml", "text/xml", "xml"})
_PATTERNS = frozenset({"*/*", "application/*", "text/*", "*"})
_VERSIONS = frozenset({"4.0", "4.0.1"})


def _parts(text: str) -> tuple[str, dict[str, str]]:
    """Media type in lower case and its parameters (names in lower case, values without quotes)."""
    kind, *parameters = text.split(";")
    named = (parameter.partition("=") for parameter in parameters)
    return kind.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in named}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0


@lru_cache(maxsize=512)
def acceptable(wanted: str) -> Form | None:
    """The form that an `Accept` header or `_format` likes best, of equals the first; None where it wants neither."""
    best: Form | None = None
    most, page = 0.0, False
    for offer in wanted.split(","):
        kind, parameters = _parts(offer)
        kind = kind.replace(" ", "+")
        page = page or kind == "text/html"
        form: Form = "xml" if kind in _XML else "json"
        if (form == "json" and kind not in _JSON and kind not in _PATTERNS) or parameters.get("fhirversion", "4.0") not in _VERSIONS:
            continue
        if (quality := _quality(parameters)) > most:
            best, most = form, quality
    # A browser names XML for the sake of pages that it cannot get here.
    return "json" if page and best else best


def form_of(accept: str | None, format: str | None = None) -> Form:
    """In which form to answer; `format` (the parameter `_format`) outranks the header `accept`. Raises FhirError 406."""
    wanted = format or accept
    if not wanted:
        return "json"
    if found := acceptable(wanted):
        return found
    source = f"_format={format}" if format else f"Accept: {accept}"
    what = f"'{source[:200]}' is not supported; this server answers application/fhir+json and application/fhir+xml (FHIR 4.0)"
    zh = f"不支持“{source[:200]}”；本服务器返回 application/fhir+json 或 application/fhir+xml（FHIR 4.0）"
    raise FhirError.of(406, "not-supported", what, zh=zh)


@lru_cache(maxsize=512)
def _content_form(content_type: str) -> Form | None:
    kind, parameters = _parts(content_type)
    utf8 = parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8", "us-ascii")
    if not utf8 or parameters.get("fhirversion", "4.0") not in _VERSIONS:
        return None
    return "json" if kind in _JSON else "xml" if kind in _XML else None


def content_form(content_type: str | None) -> Form:
    """The form of content in UTF-8; content without a type is taken for JSON. Raises FhirError 415."""
    form: Form | None = _content_form(content_type) if content_type else "json"
    if form is None:
        raise FhirError.of(
            415,
            "not-supported",
            f"Content-Type '{(content_type or '')[:200]}' is not supported here; "
            "send application/fhir+json or application/fhir+xml (or application/json, text/json, application/xml, text/xml) in UTF-8",
            zh=f"不支持的 Content-Type“{(content_type or '')[:200]}”；请以 UTF-8 发送 application/fhir+json 或 application/fhir+xml",
        )
    return form


@lru_cache(maxsize=512)
def coding(accept_encoding: str) -> str | None:
    """The content coding to answer with, for an Accept-Encoding header: 'zstd', 'gzip' or None."""
    offers = {}
    for offer in accept_encoding.lower().split(","):
        kind, parameters = _parts(offer)
        offers[kind] = _quality(parameters)
    best = max(("zstd", "gzip"), key=lambda name: offers.get(name, 0.0))
    return best if offers.get(best, 0.0) > 0 else None
