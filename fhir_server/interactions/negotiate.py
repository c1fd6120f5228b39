"""Which formats are read and written: JSON now, the rest refused by name.

Specification: https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/http.html#parameters (_format)
"""

from __future__ import annotations

from functools import lru_cache

from fhir_server.errors import FhirError

_JSON = frozenset({"application/fhir+json", "application/json", "text/json", "json"})
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
def _accepts_json(accept: str) -> bool:
    for offer in accept.split(","):
        kind, parameters = _parts(offer)
        if kind.replace(" ", "+") not in _JSON and kind not in _PATTERNS:
            continue
        if parameters.get("fhirversion", "4.0") in _VERSIONS and _quality(parameters) > 0:
            return True
    return False


def check_accept(accept: str | None, format: str | None = None) -> None:
    """Raise FhirError 406 unless JSON is acceptable. `format` (the parameter `_format`) outranks the header `accept`."""
    wanted = format or accept
    if not wanted or _accepts_json(wanted):
        return
    source = f"_format={format}" if format else f"Accept: {accept}"
    what = f"'{source[:200]}' is not supported; this server answers application/fhir+json (FHIR 4.0)"
    raise FhirError.of(406, "not-supported", what, zh=f"不支持“{source[:200]}”；本服务器返回 application/fhir+json（FHIR 4.0）")


@lru_cache(maxsize=512)
def _is_json(content_type: str) -> bool:
    kind, parameters = _parts(content_type)
    return (
        kind in _JSON
        and parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8", "us-ascii")
        and parameters.get("fhirversion", "4.0") in _VERSIONS
    )


def check_content_type(content_type: str | None) -> None:
    """Raise FhirError 415 unless the content is JSON in UTF-8; content without a type is taken for JSON."""
    if content_type and not _is_json(content_type):
        raise FhirError.of(
            415,
            "not-supported",
            f"Content-Type '{content_type[:200]}' is not supported here; "
            "send application/fhir+json (or application/json, text/json) in UTF-8",
        )


@lru_cache(maxsize=512)
def coding(accept_encoding: str) -> str | None:
    """The content coding to answer with, for an Accept-Encoding header: 'zstd', 'gzip' or None."""
    offers = {}
    for offer in accept_encoding.lower().split(","):
        kind, parameters = _parts(offer)
        offers[kind] = _quality(parameters)
    best = max(("zstd", "gzip"), key=lambda name: offers.get(name, 0.0))
    return best if offers.get(best, 0.0) > 0 else None
