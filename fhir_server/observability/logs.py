"""The log: one JSON object a line on stderr, without personal data.

Events go through structlog. The access log has a line per request with interaction, resource type, status and duration, never ids,
query values, names or content; its lines are gathered and written together, because a system call per request costs as much as a read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

_FLUSH_SECONDS = 0.25
_FLUSH_LINES = 1000


def configure(level: str) -> None:
    """Send structlog events of `level` and above, and warnings of libraries, to stderr as JSON lines."""
    number = logging.getLevelName(level.upper())
    number = number if isinstance(number, int) else logging.INFO

    def render(logger: Any, name: str, event: MutableMapping[str, Any]) -> bytes:
        return orjson.dumps(event, default=repr)

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = _Forward()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


class _Forward(logging.Handler):
    """Records of libraries as events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            exception = record.exc_info if record.exc_info and record.exc_info[0] else None
            structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=exception)
        except Exception:  # logging must never end the server; the standard handler reports to stderr
            self.handleError(record)


def log() -> Any:
    """The logger for events."""
    return structlog.get_logger()


class AccessLog:
    """Lines of answered requests; `mode` is all, errors (status 400 and above, or slower than a second) or off."""

    def __init__(self, mode: str, descriptor: int = 2) -> None:
        self._all, self._off = mode == "all", mode == "off"
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._planned = False
        self._second, self._stamp = 0, ""

    def add(self, interaction: str, type: str, method: str, status: int, seconds: float, size: int, request_id: str) -> None:
        """Note one answered request; `size`: bytes of the answer."""
        if self._off or not (self._all or status >= 400 or seconds > 1):
            return
        now = int(time.time())
        if now != self._second:
            self._second, self._stamp = now, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        self._lines.append(
            f'{{"event":"request","interaction":"{interaction}","type":"{type}","method":"{method}","status":{status},'
            f'"ms":{seconds * 1000:.2f},"bytes":{size},"request_id":"{request_id}","timestamp":"{self._stamp}"}}\n'
        )
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        elif len(self._lines) >= _FLUSH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered. A log that cannot be written (closed pipe, full disk) does not stop the server."""
        self._planned = False
        lines, self._lines = self._lines, []
        if lines:
            try:
                os.write(self._descriptor, "".join(lines).encode())
            except OSError:
                return
