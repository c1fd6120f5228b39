"""The subscriptions on one resource type, found by a key that their criteria demand, so that many of them do not slow a change.

Of 10,000 subscriptions on one patient's values each, a change asks the few of its own patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fhir_server.search.query import And, Criterion, KeyMatch, Or
from fhir_server.search.values import IndexValues
from subscriptions.watch import SearchWatch, TopicWatch, Watch

Demand = tuple[int, str | None, str]
"""(parameter, space or None for any, value) as `KeyMatch` has them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A subscription in force; `since` is the sequence number of the version that says so."""

    id: str
    watch: Watch
    since: int
    socket: bool = False
    """Its channel is a websocket: it is told by the connections themselves."""
    topic: str = ""
    content: str = ""
    """What is subscribed to, and with how much content."""


@dataclass(slots=True)
class Watchers:
    """The entries on a type. Each stands below one alternative of what it demands, or among those that demand nothing by key."""

    everyone: dict[str, Entry] = field(default_factory=dict)
    _rest: dict[str, Entry] = field(default_factory=dict)
    _by_key: dict[Demand, dict[str, Entry]] = field(default_factory=dict)
    _keys: dict[str, tuple[Demand, ...]] = field(default_factory=dict)
    _looking_back: set[str] = field(default_factory=set)
    _parameters: frozenset[int] | None = None

    def add(self, type: str, entry: Entry) -> None:
        """Put an entry where it will be looked for."""
        self.everyone[entry.id] = entry
        if entry.watch.looks_back:
            self._looking_back.add(entry.id)
        demands = [one for where in _wheres(type, entry.watch) for one in _demands(where)]
        if not demands:
            self._rest[entry.id] = entry
            return
        # Of several demands the one that the fewest share.
        keys = min(demands, key=lambda keys: sum(len(self._by_key.get(key, ())) for key in keys))
        self._keys[entry.id] = keys
        self._parameters = None
        for key in keys:
            self._by_key.setdefault(key, {})[entry.id] = entry

    def remove(self, id: str) -> None:
        """Take an entry away."""
        self.everyone.pop(id, None)
        self._rest.pop(id, None)
        self._looking_back.discard(id)
        self._parameters = None
        for key in self._keys.pop(id, ()):
            held = self._by_key[key]
            held.pop(id, None)
            if not held:
                del self._by_key[key]

    @property
    def parameters(self) -> frozenset[int]:
        """The parameters by whose keys entries are looked for."""
        if self._parameters is None:
            self._parameters = frozenset(parameter for parameter, _, _ in self._by_key)
        return self._parameters

    @property
    def look_back(self) -> bool:
        """Whether some entry asks for the version before."""
        return bool(self._looking_back)

    def candidates(self, values: Callable[[], IndexValues]) -> Iterator[Entry]:
        """Those that a change may concern. `values`: of the version that it is about, of `parameters` only; asked for where keys count."""
        yield from self._rest.values()
        if not self._by_key:
            return
        seen: set[str] = set()
        for key in values().keys:
            for demand in ((key.parameter, key.space, key.value), (key.parameter, None, key.value)):
                for id, entry in self._by_key.get(demand, {}).items():
                    if id not in seen:
                        seen.add(id)
                        yield entry


def _wheres(type: str, watch: Watch) -> list[Criterion]:
    """What must hold for the version that a change is about."""
    if isinstance(watch, SearchWatch):
        return [watch.criteria.where]
    return [one.where for one in watch.filters if one.type == type] if isinstance(watch, TopicWatch) else []


def _demands(where: Criterion) -> Iterator[tuple[Demand, ...]]:
    """Sets of keys of each of which one at least must be there."""
    if isinstance(where, And):
        for part in where.parts:
            yield from _demands(part)
    elif isinstance(where, KeyMatch) and where.value is not None:
        yield ((where.parameter, where.space, where.value),)
    elif isinstance(where, Or):
        keys = [(part.parameter, part.space, part.value) for part in where.parts if isinstance(part, KeyMatch) and part.value is not None]
        if len(keys) == len(where.parts):
            yield tuple(keys)
