"""A channel: messages become text files, for a site that prints and posts them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

from subscriptions.channel import Message, Receipt


class Letters:
    """The channel `letter`: a file for each message, named by the message's key, so that a repeated one replaces itself."""

    code = "letter"
    participation = "MAILWRIT"
    external = True

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def address(self, recipient: dict[str, Any]) -> str | None:
        """The postal address in one line; who has none is not reached by this channel."""
        for place in recipient.get("address", ()):
            if place.get("use") != "old" and (text := place.get("text") or " ".join(place.get("line", ()))):
                return str(text)
        return None

    async def send(self, message: Message) -> Receipt:
        name = hashlib.sha256(message.key.encode()).hexdigest()[:32]
        try:
            await asyncio.to_thread(self._write, self._folder / f"{name}.txt", f"{message.to}\n\n{message.subject}\n\n{message.text}\n")
        except OSError as fault:
            return Receipt("transient", f"the letter could not be written: {fault.strerror}")
        return Receipt("delivered", "written", name)

    def _write(self, path: Path, text: str) -> None:
        """All of it or nothing, durable."""
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
