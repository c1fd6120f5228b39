"""MLLP frames out of a stream of bytes: 0B … 1C 0D.

Specification: HL7 v2 transport specification, MLLP release 1
"""

from __future__ import annotations

START, END = b"\x0b", b"\x1c\r"
_AGAIN = START + b"MSH"
MAX_FRAME = 64 * 1024 * 1024


class FrameTooLarge(Exception):
    """A frame passed the limit; the connection must end."""


def frame(message: bytes) -> bytes:
    """A message as a frame."""
    return START + message + END


class Frames:
    """Takes packets in, gives whole messages out; bytes before 0B are skipped, a cut frame is never given."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._inside = False
        self._scanned = 0

    @property
    def pending(self) -> int:
        """Bytes of a frame that has begun."""
        return len(self._buffer)

    def drop(self) -> bytes:
        """Forget the frame that has begun; gives its first bytes, which hold the header."""
        head = bytes(self._buffer[:2048])
        self._buffer.clear()
        self._inside = False
        return head

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now; raises FrameTooLarge."""
        self._buffer += data
        found: list[bytes] = []
        while True:
            if not self._inside:
                start = self._buffer.find(START)
                if start < 0:
                    self._buffer.clear()
                    return found
                del self._buffer[: start + 1]
                self._inside, self._scanned = True, 0
            end = self._buffer.find(END, max(0, self._scanned - 1))
            if end < 0:
                self._scanned = len(self._buffer)
                again = self._buffer.rfind(_AGAIN, max(0, self._scanned - len(data) - 3))
                if again >= 0:
                    del self._buffer[: again + 1]
                    self._scanned = len(self._buffer)
                if len(self._buffer) > self._limit:
                    raise FrameTooLarge
                return found
            if end > self._limit:
                raise FrameTooLarge
            # A sender that broke off begins its message anew: what stands before the last beginning was cut.
            again = self._buffer.rfind(_AGAIN, 0, end)
            found.append(bytes(self._buffer[again + 1 if again >= 0 else 0 : end]))
            del self._buffer[: end + 2]
            self._inside = False
