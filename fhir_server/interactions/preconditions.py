"""If-Match, If-None-Match and If-Modified-Since.

Specification: https://hl7.org/fhir/R4/http.html#concurrency, https://hl7.org/fhir/R4/http.html#cread
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.headers import etag, parse_http_date, parse_tags
from fhir_server.interactions.http import Request
from fhir_server.storage.port import Stored


class Precondition(NamedTuple):
    """What must hold of the current version: `versions` (one of them; () = no version can match; None = not asked).

    `exists`: True = something must be there, False = nothing may be there, None = not asked.
    """

    versions: tuple[int, ...] | None = None
    exists: bool | None = None

    @property
    def simple(self) -> int | None:
        """The version for `Write.if_match` where that says it all."""
        return self.versions[0] if self.versions and len(self.versions) == 1 else None

    @property
    def needs_current(self) -> bool:
        """Whether the current version must be seen to decide."""
        return self.exists is not None or (self.versions is not None and len(self.versions) != 1)

    def check(self, type: str, id: str, current: Stored | None) -> None:
        """Raise FhirError 412 where the current version does not satisfy it."""
        alive = current is not None and not current.deleted
        if self.exists is False and alive:
            raise FhirError.of(
                412, "conflict", f"If-None-Match: * was sent, but {type}/{id} exists", zh=f"收到 If-None-Match: *，但 {type}/{id} 已存在"
            )
        if self.exists is True and not alive:
            raise FhirError.of(
                412, "conflict", f"If-Match: * was sent, but {type}/{id} does not exist", zh=f"收到 If-Match: *，但 {type}/{id} 不存在"
            )
        if self.versions is not None and (current is None or current.version not in self.versions):
            now = f"the current version is {etag(current.version)}" if current is not None else "it does not exist"
            now_zh = f"当前版本是 {etag(current.version)}" if current is not None else "该资源不存在"
            raise FhirError.of(
                412,
                "conflict",
                f"If-Match names no current version of {type}/{id}; {now}",
                zh=f"If-Match 指明的不是 {type}/{id} 的当前版本；{now_zh}",
            )


NONE = Precondition()


def precondition(request: Request) -> Precondition:
    """The precondition of a write."""
    if_match = request.headers.get("if-match")
    if if_match is not None:
        tags = parse_tags(if_match)
        if tags is None:
            return Precondition(exists=True)
        return Precondition(versions=tuple(int(tag) for tag in tags if tag.isascii() and tag.isdigit() and len(tag) <= 18))
    if_none_match = request.headers.get("if-none-match")
    if if_none_match is not None and parse_tags(if_none_match) is None:
        return Precondition(exists=False)
    return NONE


def not_modified(request: Request, stored: Stored) -> bool:
    """Whether a conditional read finds nothing newer (304). If-None-Match outranks If-Modified-Since (RFC 9110 section 13.2.2)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        known = parse_tags(tags)
        return known is None or str(stored.version) in known
    since = request.headers.get("if-modified-since")
    if since is not None:
        seconds = parse_http_date(since)
        return seconds is not None and stored.updated // 1000 <= seconds
    return False
