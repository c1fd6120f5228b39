"""HTTP/1.1 connections: uvicorn's protocol, with a short way for reads and searches, limits against slow clients, and OperationOutcomes.

The short way answers a GET inside the parser's callback: no ASGI messages, and no task unless it has to wait; a write with a small body
gets a task but no ASGI messages. It halves the cost of a read (docs/decisions/0050-short-way.md). Everything else goes uvicorn's way.
Specification: https://www.rfc-editor.org/rfc/rfc9112, https://hl7.org/fhir/R4/http.html#Status-Codes
"""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

import orjson
from httptools import HttpParserInvalidURLError
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fhir_server.errors import Issue, operation_outcome
from fhir_server.interactions.body import BYTES_PER_SECOND
from fhir_server.interactions.errors import wants_chinese

LONGEST_ADDRESS = 60_000
"""Most bytes of an address with its query."""
HEAD_LIMIT = 65_536
"""Most bytes of a request line with its headers."""
_LINGER_SECONDS = 2.0
_PREFIX = b"/fhir/"
_PLAIN_PATH = re.compile(rb"[^%$?]*(?:\?|\Z)").match
"""An address whose path needs no decoding and names no operation."""
_NOT_SHORT = frozenset({b"transfer-encoding", b"upgrade", b"expect"})
_WRITES = frozenset({b"POST", b"PUT", b"PATCH", b"DELETE"})
_SHORT_BODY = 1 << 20
"""Longest body, in bytes, that the short way takes in."""


class _Waiting:
    """Stands for uvicorn's request cycle while a request of the short way waits for something."""

    def __init__(self) -> None:
        self.response_complete = self.disconnected = False
        self.keep_alive = True
        self.message_event = asyncio.Event()


@types.coroutine
def _rest_of(started: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was started by hand and waits for a future."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as fault:
                waits_for = started.throw(fault)
            else:
                waits_for = started.send(value)
    except StopIteration as end:
        return end.value


class Protocol(HttpToolsProtocol):
    """One connection.

    Loop times: `head_since` since a request's head is awaited, None when it is complete or none has begun; `body_since` since a body
    of the short way is taken in; `idle_since` of the last answer of the short way.
    """

    head_since: float | None = None
    body_since: float | None = None
    idle_since: float | None = None
    _head_bytes = 0
    _answered = _refused = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._body: list[bytes] = []
        self.url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # type: ignore[override]
        super().connection_made(transport)  # type: ignore[arg-type]
        self.head_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self.idle_since = None
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > HEAD_LIMIT and self.head_since is not None and not (self._refused or self.transport.is_closing()):
            self._refuse(
                431,
                "too-long",
                f"The request's address and headers are larger than {HEAD_LIMIT} bytes",
                f"请求的地址和请求头超过 {HEAD_LIMIT} 字节",
            )

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        if self.head_since is None:
            self.head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self.head_since = None
        self._answered = False
        if self.url.startswith(_PREFIX) and self._takes_short_way():
            self._answered = True
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers = self.scope["headers"] = headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._answered:
            super().on_body(body)
        elif self.body_since is not None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if not self._answered:
            super().on_message_complete()
        elif self.body_since is not None:
            self.body_since = None
            body = b"".join(self._body)
            self._body.clear()
            path, query = self._address()
            self._run(self.app.fhir.whole(self.parser.get_method().decode("ascii"), path, query, self.headers, body))  # type: ignore[attr-defined]

    # --- the short way
    def _takes_short_way(self) -> bool:
        """Answer a GET now, or begin to take in a small body; False leaves the request to uvicorn's way."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.pipeline or self.flow.write_paused or not _PLAIN_PATH(self.url) or self.parser.get_http_version() != "1.1":
            return False
        length = 0
        for name, value in self.headers:
            if name == b"content-length":
                if not value.isdigit():
                    return False
                length = int(value)
            elif name in _NOT_SHORT or (name == b"connection" and value.lower() != b"keep-alive"):
                return False
        method = self.parser.get_method()
        if method == b"GET" and length == 0:
            return self._answer_at_once()
        if method in _WRITES and length <= _SHORT_BODY:
            self.body_since = self.loop.time()
            return True
        return False

    def _address(self) -> tuple[str, str]:
        path, _, query = self.url[len(_PREFIX) :].decode("latin-1").partition("?")
        return path, query

    def _answer_at_once(self) -> bool:
        path, query = self._address()
        coroutine = self.app.fhir.at_once(path, query, self.headers)  # type: ignore[attr-defined]
        if coroutine is None:
            return False
        try:
            waits_for = coroutine.send(None)
        except StopIteration as end:
            self._write(end.value)
        else:
            self._run(_rest_of(coroutine, waits_for))
        return True

    def _run(self, answer: Any) -> None:
        """Wait for an answer in a task of its own; further requests of this connection queue up behind it."""
        self.cycle = _Waiting()  # type: ignore[assignment]
        task = self.loop.create_task(self._answer_later(self.cycle, answer))  # type: ignore[arg-type]
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer_later(self, cycle: _Waiting, answer: Any) -> None:
        try:
            message = await answer
        except BaseException:  # cancelled by a shutdown that waited long enough
            self.transport.close()
            raise
        cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        self._write(message, close=not cycle.keep_alive)
        if self.pipeline:
            self.on_response_complete()

    def _write(self, message: tuple[bytes, bytes], *, close: bool = False) -> None:
        head, body = message
        parts = [head]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (b"connection: close\r\n\r\n" if close else b"\r\n", body)
        self.transport.write(b"".join(parts))
        self.idle_since = self.loop.time()
        if close:
            self.transport.close()

    # --- refusals
    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > LONGEST_ADDRESS:
            raise ValueError("the address is too long")  # the parser stops, and asks for `send_400_response`

    def send_400_response(self, msg: str) -> None:
        if len(self.url) > LONGEST_ADDRESS:
            self._refuse(
                414,
                "too-long",
                f"The address is longer than {LONGEST_ADDRESS} bytes; a search may come as POST to _search",
                f"地址超过 {LONGEST_ADDRESS} 字节；检索可用 POST 发送到 _search",
            )
            return
        if isinstance(sys.exc_info()[1], HttpParserInvalidURLError):
            self._refuse(
                400,
                "structure",
                "The address holds a character that must be percent-encoded there (RFC 3986), as all but ASCII must",
                "地址中有必须作百分号编码的字符（RFC 3986）；非 ASCII 字符都须如此编码",
            )
            return
        self._refuse(400, "structure", "The request is not HTTP/1.1 as RFC 9112 has it", "请求不符合 RFC 9112 规定的 HTTP/1.1")

    def look_after(self, now: float, patience: float, idle: float) -> None:
        """End the connection if its request comes too slowly (`patience` in seconds), or nothing has come for `idle` seconds."""
        if self._refused or self.transport.is_closing():
            return
        received = sum(map(len, self._body))
        if self.head_since is not None and self.head_since < now - patience:
            self._refuse(408, "timeout", "The request's headers came too slowly", "请求头传送得太慢")
        elif self.body_since is not None and self.body_since < now - patience - received / BYTES_PER_SECOND:
            self._refuse(408, "timeout", "The request body came too slowly", "请求体传送得太慢")
        elif self.idle_since is not None and self.idle_since < now - idle and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()

    def _refuse(self, status: int, code: str, text: str, zh: str) -> None:
        # The headers that have come so far: a request may be refused before its last one.
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers or ()}
        body = orjson.dumps(operation_outcome([Issue(code, text, zh=zh)], chinese=wants_chinese(sent)))
        kind = b"content-type: application/fhir+json; charset=utf-8\r\ncache-control: no-store\r\nconnection: close\r\n"
        self.transport.write(STATUS_LINE[status] + kind + b"content-length: %d\r\n\r\n" % len(body) + body)
        # A client that is still sending would lose the answer if the connection were closed on it at once.
        self._refused = True
        self.head_since = self.body_since = None
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)


async def watch(connections: set[Any], head_seconds: float, idle_seconds: float) -> None:
    """End connections that are too slow or idle, again and again: one timer for all is cheaper than one for each."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(1.0, head_seconds / 4))
        now = loop.time()
        for connection in list(connections):
            if isinstance(connection, Protocol):
                connection.look_after(now, head_seconds, idle_seconds)
