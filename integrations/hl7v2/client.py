"""An MLLP client that waits for each acknowledgement: for the demo feed, for outbound messages, and for tests."""

from __future__ import annotations

import asyncio
from types import TracebackType

from integrations.hl7v2.framing import Frames, frame


class MllpClient:
    """One connection; `async with MllpClient(host, port) as client: answer = await client.send(message)`."""

    def __init__(self, host: str, port: int, timeout: float = 30.0) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._frames = Frames()
        self._waiting: list[bytes] = []
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> MllpClient:
        self._reader, self._writer = await asyncio.wait_for(asyncio.open_connection(self._host, self._port), self._timeout)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    async def write(self, data: bytes) -> None:
        """Raw bytes, as they are: for tests of broken frames."""
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> bytes:
        """The next acknowledgement; raises ConnectionError when the other side closed, TimeoutError when it is silent."""
        assert self._reader is not None
        while not self._waiting:
            data = await asyncio.wait_for(self._reader.read(65536), self._timeout)
            if not data:
                raise ConnectionError("the other side closed the connection without an answer")
            self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)

    async def send(self, message: bytes) -> bytes:
        """Send one message and wait for its answer."""
        await self.write(frame(message))
        return await self.answer()
