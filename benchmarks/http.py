"""A small HTTP/1.1 client over one kept connection: cheap enough not to compete with the server that it measures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson


@dataclass(slots=True)
class Answer:
    """Status, headers with lower-case names, and body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Connection:
    """One kept connection to `base` (http://host:port/path); only loopback is spoken to."""

    base: str
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None
    _prefix: str = field(default="", init=False)
    _host: str = field(default="", init=False)
    _port: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(f"benchmarks speak to loopback only, not to {parts.hostname}")
        self._host, self._port, self._prefix = str(parts.hostname), parts.port or 80, parts.path.rstrip("/")

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """`path` is below the base ('Patient/1') or an absolute URL of it; header names with _ for -."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        assert self._reader and self._writer
        if path.startswith("http://"):
            parts = urlsplit(path)
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        else:
            target = f"{self._prefix}/{path}" if path else self._prefix
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}:{self._port}", "Accept: application/fhir+json"]
        if body:
            lines += [f"Content-Length: {len(body)}", "Content-Type: application/fhir+json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        status = int(head[0].split(" ")[1])
        if "chunked" in found.get("transfer-encoding", ""):
            return Answer(status, found, await self._chunks())
        length = int(found.get("content-length", 0))
        return Answer(status, found, await self._reader.readexactly(length) if length and method != "HEAD" else b"")

    async def _chunks(self) -> bytes:
        assert self._reader
        parts = []
        while size := int((await self._reader.readline()).split(b";")[0], 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readline()
        return b"".join(parts)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None
