"""A rest-hook receiver on loopback: an HTTP server that keeps what it is sent and answers as it is told."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Hit:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    answer: int = 0
    """The status that was answered; 0 where nothing was."""

    @property
    def taken(self) -> bool:
        """Whether the receiver said that it has it."""
        return 200 <= self.answer < 300


@dataclass
class Receiver:
    """`status` is answered; 0 hangs; -1 closes the connection without an answer. `location` is sent along. `open`: until then it waits."""

    status: int = 200
    location: str = ""
    retry_after: int = 0
    slow: dict[str, float] = field(default_factory=dict)
    """First part of a path -> seconds before it is answered."""
    hits: list[Hit] = field(default_factory=list)
    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def wait(self, number: int, seconds: float = 5.0) -> None:
        """Until `number` requests are here."""
        async with asyncio.timeout(seconds):
            while len(self.hits) < number:
                self.arrived.clear()
                await self.arrived.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (field_line := (await reader.readline()).decode().rstrip("\r\n")) != "":
                    name, _, value = field_line.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                hit = Hit(method, path, headers, body, asyncio.get_running_loop().time())
                self.hits.append(hit)
                self.arrived.set()
                if pause := self.slow.get("/" + path.split("/")[1]):
                    await asyncio.sleep(pause)
                if self.open is not None:
                    await self.open.wait()
                if self.status == 0:
                    await asyncio.sleep(60)
                if self.status == -1:
                    return
                hit.answer = self.status
                extra = f"Location: {self.location}\r\n" if self.location else ""
                extra += f"Retry-After: {self.retry_after}\r\n" if self.retry_after else ""
                writer.write(f"HTTP/1.1 {self.status} X\r\n{extra}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def receiver(status: int = 200, port: int = 0):
    """A receiver that listens until the block ends."""
    made = Receiver(status)
    server = await asyncio.start_server(made.serve, "127.0.0.1", port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
