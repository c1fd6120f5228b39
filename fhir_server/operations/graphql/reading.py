"""What a query reads: resources of one state of the store, each once, counted; references resolved level by level.

Specification: https://hl7.org/fhir/R4/graphql.html#references, https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.model import json_codec
from fhir_server.model.references import parse_reference
from fhir_server.operations.graphql.limits import Budget
from fhir_server.storage.port import Stored

_VERSION = re.compile(r"[1-9]\d{0,17}\Z", re.ASCII)


class Place(NamedTuple):
    """A resource, or (version not 0) one version of it."""

    type: str
    id: str
    version: int = 0


class Reader:
    """Reads through the gate for one query (in a mutation: for one field, since each sees what those before it did)."""

    def __init__(self, context: Context, request: Request, budget: Budget, snapshot: int) -> None:
        self.context, self.request, self.budget = context, request, budget
        self.snapshot = snapshot
        self._known: dict[Place, dict[str, Any] | None] = {}

    def seed(self, content: dict[str, Any]) -> None:
        """Know a resource beforehand."""
        self._known[Place(content["resourceType"], content["id"])] = content

    def place_of(self, reference: Any) -> Place | None:
        """Where a Reference leads, if that is on this server."""
        text = reference.get("reference")
        to = parse_reference(text) if isinstance(text, str) else None
        if to is None or to.type not in self.context.types:
            return None
        if not to.within((self.request.base, *self.context.own_bases)):
            return None
        if to.version and not _VERSION.match(to.version):
            return None
        return Place(to.type, to.id, int(to.version or 0))

    async def load(self, places: Iterable[Place]) -> None:
        """Read what is not known yet. Raises FhirError 422 (too many), 403."""
        wanted = [place for place in dict.fromkeys(places) if place not in self._known]
        if not wanted:
            return
        self.budget.resources(len(wanted))
        gate, principal = self.context.gate, self.request.principal
        current = [(place.type, place.id) for place in wanted if not place.version]
        found: list[tuple[Place, Stored]] = []
        if current:
            gate.require(principal, "read")
            found += [(Place(one.type, one.id), one) for one in await gate.read_many(principal, current, self.snapshot)]
        for place in wanted:
            if place.version:
                gate.require(principal, "vread")
                stored = await gate.read_version(principal, *place)
                found += [(place, stored)] if stored is not None else []
        self._known |= dict.fromkeys(wanted)
        for place, stored in found:
            if not stored.deleted:
                self._known[place] = json_codec.loads(stored.body)

    async def get(self, place: Place) -> dict[str, Any] | None:
        """A resource; None where there is none, or none that may be seen."""
        await self.load([place])
        return self._known[place]

    def known(self, place: Place) -> dict[str, Any] | None:
        """What has been loaded."""
        return self._known.get(place)


def contained_in(container: dict[str, Any], reference: str) -> dict[str, Any] | None:
    """What '#id' means within a resource; '#' is the resource itself."""
    if reference == "#":
        return container
    found: Sequence[Any] = [one for one in container.get("contained") or () if isinstance(one, dict) and one.get("id") == reference[1:]]
    return found[0] if found else None


def unresolved(reference: Any) -> FhirError:
    """404 for a reference that leads to nothing here."""
    text = str(reference.get("reference") or reference.get("display") or "")[:200]
    return FhirError.of(
        404,
        "not-found",
        f"The reference '{text}' leads to no resource here; resource(optional: true) leaves it out",
        zh=f"引用“{text}”在本服务器上找不到资源；用 resource(optional: true) 可略过它",
    )
