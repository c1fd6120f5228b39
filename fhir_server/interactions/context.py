"""What every interaction and operation is given: the gate, what FHIR says, what is served, settings and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from fhir_server.auth.gate import Gate
from fhir_server.interactions.registration import Registry
from fhir_server.settings import Settings

if TYPE_CHECKING:
    from fhir_server.model.definitions import Definitions
    from fhir_server.search.parameters import Registry as SearchRegistry


def system_clock() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Context:
    """One server's parts. `operations` is the registration of `$operations`; `search` that of search parameters.

    `secret` signs paging links; `zone` is that of dates without one; `clock` gives milliseconds since 1970 UTC.
    `parts` holds what other rooms hang in (by name), such as the jobs runner.
    """

    gate: Gate
    definitions: Definitions
    search: SearchRegistry
    operations: Registry
    settings: Settings
    secret: bytes
    zone: ZoneInfo
    clock: Callable[[], int] = system_clock
    parts: dict[str, Any] = field(default_factory=dict)
    own_bases: tuple[str, ...] = ()
    """Base URLs under which this server is reached: an absolute reference below one of them is a local one."""
    types: frozenset[str] = frozenset()
    """All concrete resource types; filled from `definitions`."""

    def __post_init__(self) -> None:
        if not self.types:
            self.types = frozenset(self.definitions.resource_types)
