"""Outgoing HTTP calls under the endpoint policy: resolve, check, connect to the checked address; no redirects, no proxies.

Built on httpcore, whose network backend is the one place through which every connection passes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore

from subscriptions.delivery.endpoint import EndpointPolicy, EndpointRefused

_ANSWER_BYTES = 64 * 1024


class CallFailed(Exception):
    """No answer was had: the text names the kind of failure, never headers or content."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of an answer; its body is not kept."""

    status: int


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects only where the policy allows."""

    def __init__(self, policy: EndpointPolicy) -> None:
        self._policy = policy
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as fault:
            raise httpcore.ConnectError(f"the name {host} is not known") from fault
        except TimeoutError as fault:
            raise httpcore.ConnectTimeout(f"the name service did not answer for {host}") from fault
        addresses = self._policy.choose(host, dict.fromkeys(str(entry[4][0]) for entry in found))
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
                failure = fault
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("outgoing calls use no local sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Caller:
    """A pool of kept connections. `timeout` in seconds for connecting, for writing, and for the answer."""

    def __init__(self, policy: EndpointPolicy, *, timeout: float = 10.0, connections: int = 200) -> None:
        self._timeouts = {"connect": timeout, "read": timeout, "write": timeout, "pool": timeout}
        self._whole = timeout
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=30.0,
            network_backend=_CheckedBackend(policy),
        )

    async def call(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        """Send one request. Raises EndpointRefused or CallFailed; any status, a redirect too, is an answer."""
        try:
            async with asyncio.timeout(self._whole):
                return await self._call(method, url, headers, body)
        except EndpointRefused:
            raise
        except TimeoutError:
            raise CallFailed(f"no answer within {self._whole:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as fault:
            raise CallFailed(f"{type(fault).__name__}: {_reason(fault)}") from None

    async def _call(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        fields = [(name.encode("ascii"), value.encode("utf-8")) for name, value in headers]
        extensions = {"timeout": self._timeouts}
        async with self._pool.stream(method, url, headers=fields, content=body, extensions=extensions) as response:
            read = 0
            async for part in response.aiter_stream():
                read += len(part)
                if read > _ANSWER_BYTES:
                    break
            return Answer(response.status)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


def _reason(fault: BaseException) -> str:
    text = str(fault) or str(fault.__cause__ or "")
    return text[:200] or "the connection failed"
