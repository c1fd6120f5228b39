"""Where links lead, and which web applications may call: base URL and CORS.

Links take their host from the request only where that host is known to be ours; a request cannot smuggle a foreign one in.
Specification: https://hl7.org/fhir/R4/http.html#general, https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re

from fhir_server.settings import Settings

_ALLOW_HEADERS = (
    "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, "
    "Origin, Prefer, X-Request-Id, X-Requested-With"
)
_EXPOSE_HEADERS = "Content-Location, ETag, Last-Modified, Location, Retry-After, X-Progress, X-Request-Id"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_LOOPBACK = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)
_PUBLIC = ("metadata", ".well-known/smart-configuration", "openapi.json")


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())


class Origins:
    """Base URLs by Host header, and CORS answers by Origin header; `port`: the one that is really listened on."""

    def __init__(self, settings: Settings, port: int) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._default = (settings.public_url.rstrip("/") or f"http://{host}:{port}") + "/fhir"
        self._fixed = bool(settings.public_url)
        known = {f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]", host)}
        if port == 80:
            known |= {"localhost", "127.0.0.1", "[::1]", host}
        self._hosts = known | _names(settings.allowed_hosts)
        self._origins = _names(settings.cors_origins)
        self._bases: dict[str, str] = {}

    @property
    def base(self) -> str:
        """The base URL of requests whose Host is unknown, and of everything that starts without a request."""
        return self._default

    @property
    def own(self) -> tuple[str, ...]:
        """All base URLs under which this server knows itself to be reached."""
        return (self._default, *sorted({f"http://{host}/fhir" for host in self._hosts} - {self._default}))

    def base_of(self, host: str) -> str:
        """The FHIR base URL, without a trailing slash, for a request with this Host header."""
        known = self._bases.get(host)
        if known is None:
            known = self._default
            text = host.lower()
            bare = text.rpartition(":")[0] if ":" in text and not text.endswith("]") else text
            if not self._fixed and _HOST.fullmatch(text) and (text in self._hosts or bare in self._hosts):
                known = f"http://{text}/fhir"
                if len(self._bases) < 100:
                    self._bases[host] = known
        return known

    def welcome(self, origin: str) -> bool:
        """Whether a page of `origin` may open a websocket; '' = it is no page."""
        own = {base.removesuffix("/fhir") for base in self.own}
        return (
            not origin
            or "*" in self._origins
            or origin.lower() in self._origins
            or origin in own
            or _LOOPBACK.fullmatch(origin) is not None
        )

    def cors(self, origin: str, path: str, preflight: bool) -> list[tuple[str, str]]:
        """CORS headers for a request from a page of `origin`; none where that origin may not call.

        What is public anyway (CapabilityStatement) is open to all; else origins of the setting, and pages of this machine.
        """
        if path in _PUBLIC or "*" in self._origins:
            headers = [("Access-Control-Allow-Origin", "*")]
        elif origin.lower() in self._origins or _LOOPBACK.fullmatch(origin):
            headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        else:
            return [("Vary", "Origin")]
        if preflight:
            headers += [
                ("Access-Control-Allow-Methods", _METHODS),
                ("Access-Control-Allow-Headers", _ALLOW_HEADERS),
                ("Access-Control-Max-Age", "600"),
            ]
        else:
            headers.append(("Access-Control-Expose-Headers", _EXPOSE_HEADERS))
        return headers
