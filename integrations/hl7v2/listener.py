"""The MLLP listener: many connections, one message after the other on each, a bounded amount of bytes in flight.

Specification: HL7 v2 transport specification, MLLP release 1
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
from collections.abc import Awaitable, Callable

from fhir_server.observability.logs import log
from integrations.hl7v2 import ack
from integrations.hl7v2.errors import INTERNAL, REQUIRED, Refusal
from integrations.hl7v2.framing import MAX_FRAME, Frames, FrameTooLarge, frame

_READ = 64 * 1024
GRACE_SECONDS = 5.0
LINGER_SECONDS = 5.0
"""How long a peer whose frame was too large is listened to after the answer: closing at once would reset the connection under it."""
ALL_FRAMES = 4
"""Largest frames that may be on their way at the same time, over all connections."""
Handle = Callable[[bytes, str], Awaitable[bytes]]


class MllpServer:
    """Listens on `host`:`port` (0 takes a free one) and answers each frame with what `handle(message, peer)` gives."""

    def __init__(self, host: str, port: int, handle: Handle, *, max_frame: int = MAX_FRAME) -> None:
        self._host, self._port, self._handle, self._max_frame = host, port, handle, max_frame
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._ending = False

    @property
    def address(self) -> str:
        """'host:port' that is listened on."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    @property
    def connections(self) -> int:
        return len(self._tasks)

    async def start(self) -> None:
        """Begin to listen; raises OSError where the address is taken."""
        self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=_READ, backlog=512)

    async def stop(self) -> None:
        """Accept nothing more, finish and acknowledge what is in flight, end the connections."""
        self._ending = True
        if self._server is not None:
            self._server.close()
        for task in self._tasks - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=GRACE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        frames = Frames(self._max_frame)
        try:
            _keep_alive(writer)
            peer = writer.get_extra_info("peername")
            await self._serve(frames, reader, writer, f"{peer[0]}:{peer[1]}" if peer else "", task)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            log().info("an MLLP connection broke off")
        except asyncio.CancelledError:
            if not self._ending:
                raise
        finally:
            self._tasks.discard(task)
            self._busy.discard(task)
            self._pending -= frames.pending
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _serve(
        self, frames: Frames, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str, task: asyncio.Task[None]
    ) -> None:
        while data := await reader.read(_READ):
            before = frames.pending
            try:
                messages = frames.feed(data)
            except FrameTooLarge:
                self._pending += frames.pending - before
                refusal = Refusal("AR", REQUIRED, f"The frame is larger than {self._max_frame} bytes; nothing of it was kept")
                return await self._give_up(refusal, frames, reader, writer)
            self._pending += frames.pending - before
            if self._pending > self._max_frame * ALL_FRAMES:
                refusal = Refusal("AE", INTERNAL, "Too many large messages are on their way at the same time; send it again later")
                return await self._give_up(refusal, frames, reader, writer)
            for message in messages:
                self._busy.add(task)
                try:
                    writer.write(frame(await self._handle(message, peer)))
                    await writer.drain()
                finally:
                    self._busy.discard(task)
                if self._ending:
                    return None
        if frames.pending:
            log().info("an MLLP connection ended inside a frame; nothing of it was kept", bytes=frames.pending)
        return None

    async def _give_up(self, refusal: Refusal, frames: Frames, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer, and close so that the peer can read the answer: what it still sends is read and thrown away for a while."""
        self._pending -= frames.pending
        header = frames.drop()
        writer.write(frame(ack.refuse(ack.addressed(header), refusal, dt.datetime.now().astimezone()).encode()))
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await reader.read(_READ):
                    pass


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
