"""Outgoing calls: only where the policy allows, at the address that was checked, no redirects. conformance.md K23."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import pytest

from subscriptions.delivery.caller import Caller, CallFailed
from subscriptions.delivery.endpoint import EndpointPolicy, EndpointRefused
from tests.channels.certificate import certificate
from tests.subscriptions.receiver import receiver

LOCAL = EndpointPolicy(loopback=True)


async def test_the_request_arrives_as_it_was_made() -> None:
    async with receiver(204) as there:
        caller = Caller(LOCAL)
        answer = await caller.call("PUT", there.url + "/Patient/1?x=1", [("Authorization", "Bearer s")], b"{}")
        await caller.close()
        (hit,) = there.hits
        assert (answer.status, hit.method, hit.path, hit.body) == (204, "PUT", "/hook/Patient/1?x=1", b"{}")
        assert hit.headers["authorization"] == "Bearer s" and hit.headers["host"] == f"127.0.0.1:{there.port}"


async def test_a_refused_address_is_not_even_connected_to() -> None:
    async with receiver() as there:
        caller = Caller(EndpointPolicy())
        with pytest.raises(EndpointRefused):
            await caller.call("POST", there.url, [], b"")
        assert not there.hits


async def test_the_address_is_checked_when_it_connects_whatever_the_name_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name answered with a public address when the Subscription was created, now with loopback."""
    async with receiver() as there:
        asked = []

        def lie(host: str, port: int, **more: object) -> list[object]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", lie)
        caller = Caller(EndpointPolicy())
        with pytest.raises(EndpointRefused, match=r"rebind\.example leads to an address that outgoing calls may not reach"):
            await caller.call("POST", f"http://rebind.example:{there.port}/", [], b"")
        assert asked == ["rebind.example"] and not there.hits


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiver() as elsewhere, receiver(307) as there:
        there.location = elsewhere.url
        caller = Caller(LOCAL)
        assert (await caller.call("POST", there.url, [], b"")).status == 307
        assert not elsewhere.hits


async def test_an_endpoint_that_hangs_is_given_up_in_time() -> None:
    async with receiver(0) as there:
        caller, begin = Caller(LOCAL, timeout=0.2), time.monotonic()
        with pytest.raises(CallFailed, match=r"0\.2 s"):
            await caller.call("POST", there.url, [], b"")
        assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("status", [-1])
async def test_a_connection_closed_without_an_answer_is_a_failure(status: int) -> None:
    async with receiver(status) as there:
        with pytest.raises(CallFailed):
            await Caller(LOCAL).call("POST", there.url, [], b"")


async def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(CallFailed):
        await Caller(LOCAL).call("POST", f"http://127.0.0.1:{port}/", [], b"")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as there:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert (await Caller(LOCAL).call("POST", there.url, [], b"")).status == 200


async def test_connections_are_kept_and_one_that_the_other_side_closed_is_replaced() -> None:
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        for _ in range(2):
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    caller = Caller(LOCAL)
    for n in range(6):
        assert (await caller.call("POST", f"http://127.0.0.1:{port}/", [], b"")).status == 200
        if n % 2:
            await asyncio.sleep(0.01)
    assert opened == 3
    await caller.close()
    server.close()


async def test_the_name_of_the_certificate_is_checked(tmp_path: Path) -> None:
    """An address that was checked and connected to must still prove the endpoint's name."""
    _, context = certificate(tmp_path, "other.example")
    async with receiver() as there:
        server = await asyncio.start_server(there.serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CallFailed, match=r"(?i)certificate"):
            await Caller(LOCAL).call("POST", f"https://localhost:{port}/", [], b"")
        assert not there.hits
        server.close()


async def test_https_with_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, context = certificate(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with receiver() as there:
        server = await asyncio.start_server(there.serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        answer = await Caller(LOCAL).call("PUT", f"https://localhost:{port}/a?b=c", [("X-A", "值")], b"{}")
        assert answer.status == 200 and there.hits[0].path == "/a?b=c"
        server.close()


async def test_an_endless_answer_is_cut_off() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await Caller(LOCAL).call("POST", f"http://127.0.0.1:{port}/", [], b"")).status == 200
    server.close()


async def test_an_answer_that_is_not_http_is_a_failure() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(CallFailed):
        await Caller(LOCAL).call("POST", f"http://127.0.0.1:{port}/", [], b"")
    server.close()
