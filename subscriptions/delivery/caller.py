"""Outgoing HTTP calls under the endpoint policy: resolve, check, connect to the checked address; no redirects, no proxies.

HTTP/1.1 by h11 over asyncio, because every connection must go to exactly the address that was checked; connections are kept and used
again. Decision with measurements: docs/decisions/0074-outgoing-calls.md
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

import h11

from fhir_server.observability import tracing
from subscriptions.delivery.endpoint import EndpointPolicy, EndpointRefused

_ANSWER_BYTES = 64 * 1024
_CHUNK = 16 * 1024
KEEP_SECONDS = 30.0
"""How long an unused connection is kept."""
_KEPT = 200
_LONGEST = 3600
LOOK_UPS = 48
"""Names that are looked up at once."""
LOOK_UP_SECONDS = 5.0


class CallFailed(Exception):
    """No answer was had: the text names the kind of failure, never headers or content."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of an answer, and after how many seconds it asks to be called again (0: it says nothing); its body is not kept."""

    status: int
    retry_after: int = 0


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection and the state of its conversation."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    talk: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    used: float = 0.0

    def usable(self, now: float) -> bool:
        return now - self.used < KEEP_SECONDS and not self.reader.at_eof() and not self.writer.is_closing()

    def close(self) -> None:
        self.writer.close()


class Caller:
    """Makes calls. `timeout` in seconds for a whole call, name look-up and connecting included."""

    def __init__(self, policy: EndpointPolicy, *, timeout: float = 10.0) -> None:
        self._policy, self._timeout = policy, timeout
        self._kept: dict[tuple[str, str, int], list[_Connection]] = {}
        self._number = 0
        self._tls: ssl.SSLContext | None = None
        self._names = ThreadPoolExecutor(LOOK_UPS, "names")

    async def call(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes, *, timeout: float = 0) -> Answer:
        """Send one request. Raises EndpointRefused or CallFailed; any status, a redirect too, is an answer.

        `timeout`: seconds, shorter than the caller's own (0: that one).
        """
        seconds = min(timeout, self._timeout) if timeout else self._timeout
        try:
            # Neither path nor query: they may hold a secret, or the id of a resource.
            with tracing.span(method, {"http.request.method": method, "server.address": _host(url)}, kind="CLIENT") as span:
                async with asyncio.timeout(seconds):
                    answer = await self._call(method, urlsplit(url), tracing.sent_on(headers), body)
                span.answered(answer.status)
                return answer
        except (EndpointRefused, CallFailed):
            raise
        except TimeoutError:
            raise CallFailed(f"no answer within {seconds:g} s") from None
        except (OSError, h11.ProtocolError, UnicodeError, ValueError) as fault:
            raise CallFailed(f"{type(fault).__name__}: {str(fault)[:200] or 'the connection failed'}") from None

    async def _call(self, method: str, url: SplitResult, headers: list[tuple[str, str]], body: bytes) -> Answer:
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        key = (url.scheme, host, port)
        while (connection := self._take(key)) is not None:
            try:
                return await self._converse(key, connection, method, url, headers, body)
            except (ConnectionError, h11.RemoteProtocolError):
                # The other side closed a kept connection at the same moment: nothing was answered, another one is tried.
                continue
        return await self._converse(key, await self._connect(*key), method, url, headers, body)

    async def _connect(self, scheme: str, host: str, port: int) -> _Connection:
        try:
            found = await self._found(host, port)
        except OSError:
            raise ConnectionError(f"the name {host} is not known") from None
        addresses = self._policy.choose(host, dict.fromkeys(str(entry[4][0]) for entry in found))
        failure: OSError | None = None
        for address in addresses:
            try:
                return _Connection(*await asyncio.open_connection(address, port, **self._secured(scheme, host)))
            except OSError as fault:
                failure = fault
        raise failure or ConnectionError(f"{host} has no address")

    async def _found(self, host: str, port: int) -> list[Any]:
        """The addresses of a name. Look-ups have threads of their own: slow ones must hold up neither each other nor the server's work."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                return await loop.run_in_executor(self._names, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        except TimeoutError:
            raise CallFailed(f"the name {host} was not resolved within {LOOK_UP_SECONDS:g} s") from None

    def _secured(self, scheme: str, host: str) -> dict[str, Any]:
        if scheme != "https":
            return {}
        self._tls = self._tls or ssl.create_default_context()
        return {"ssl": self._tls, "server_hostname": host}

    async def _converse(
        self, key: tuple[str, str, int], connection: _Connection, method: str, url: SplitResult, headers: list[tuple[str, str]], body: bytes
    ) -> Answer:
        whole = False
        try:
            connection.writer.write(_request(connection.talk, method, url, headers, body))
            await connection.writer.drain()
            answer, whole = await _answer(connection)
        finally:
            if not whole:
                connection.close()
        if whole:
            self._keep(key, connection)
        return answer

    # --- kept connections

    def _take(self, key: tuple[str, str, int]) -> _Connection | None:
        kept, now = self._kept.get(key), asyncio.get_running_loop().time()
        while kept:
            connection = kept.pop()
            self._number -= 1
            if connection.usable(now):
                return connection
            connection.close()
        return None

    def _keep(self, key: tuple[str, str, int], connection: _Connection) -> None:
        if self._number >= _KEPT:
            self._drop_idle()
        if self._number >= _KEPT:
            connection.close()
            return
        connection.talk.start_next_cycle()
        connection.used = asyncio.get_running_loop().time()
        self._kept.setdefault(key, []).append(connection)
        self._number += 1

    def _drop_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for key, connections in list(self._kept.items()):
            good = [connection for connection in connections if connection.usable(now)]
            for connection in connections:
                if connection not in good:
                    connection.close()
            self._number -= len(connections) - len(good)
            self._kept[key] = good
            if not good:
                del self._kept[key]

    async def close(self) -> None:
        """Close all kept connections."""
        for connections in self._kept.values():
            for connection in connections:
                connection.close()
        self._kept.clear()
        self._number = 0
        self._names.shutdown(wait=False, cancel_futures=True)


def _host(url: str) -> str:
    """The host of a URL; '' where it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _request(talk: h11.Connection, method: str, url: SplitResult, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """The request's bytes. `Host` and `Content-Length` are ours."""
    host = url.netloc.rpartition("@")[2]
    fields = [("Host", host), *((n, v) for n, v in headers if n.lower() != "content-length"), ("Content-Length", str(len(body)))]
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    encoded = [(name.encode("ascii"), value.encode("utf-8")) for name, value in fields]
    head = talk.send(h11.Request(method=method, target=target.encode("ascii"), headers=encoded))
    parts = [head, talk.send(h11.Data(data=body)) if body else b"", talk.send(h11.EndOfMessage())]
    return b"".join(part for part in parts if part)


async def _answer(connection: _Connection) -> tuple[Answer, bool]:
    """The answer, and whether it was read to its end so that the connection can be used again."""
    answer, read = Answer(0), 0
    while True:
        event = connection.talk.next_event()
        if event is h11.NEED_DATA:
            data = await connection.reader.read(_CHUNK)
            if not data and connection.talk.their_state is h11.SEND_RESPONSE:
                raise ConnectionError("the connection was closed without an answer")
            connection.talk.receive_data(data)
        elif isinstance(event, h11.Response):
            answer = Answer(event.status_code, _seconds(event.headers))
        elif isinstance(event, h11.Data):
            read += len(event.data)
            if read > _ANSWER_BYTES:
                return answer, False
        elif isinstance(event, h11.EndOfMessage):
            return answer, connection.talk.our_state is h11.DONE and connection.talk.their_state is h11.DONE
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            if not answer.status:
                raise ConnectionError("the connection was closed without an answer")
            return answer, False


def _seconds(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """`Retry-After` in seconds, an hour at most; its form with a date is not asked for and counts as nothing."""
    said = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return min(int(said), _LONGEST) if said.isdigit() else 0
