"""Validation with all that this server knows: structure, R4's own rules, profiles that are stored, and the settings of the site.

Specification: https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from fhir_server.auth.gate import Principal
from fhir_server.errors import Issue
from fhir_server.interactions.context import Context
from fhir_server.model import json_codec
from fhir_server.model.guide import guide
from fhir_server.model.library import Library
from fhir_server.model.references import parse_reference, references_in
from fhir_server.storage.conformance import SECONDS, StoredConformance
from fhir_server.terminology.large import LargeSystems
from fhir_server.validation import structure
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.profiles.refusals import EXAMPLES, MARKUP

log = logging.getLogger("fhir_server.validation")
LARGE = 50
"""Entries from which on a Bundle is validated in a thread."""
REFERENCES = 500
"""Most references of a resource that are followed."""


class Validating:
    """One process's validation. Its place among the parts of the context is 'validating'."""

    def __init__(self, context: Context, library: StoredConformance, large: LargeSystems) -> None:
        settings = context.settings
        self._context, self.library, self.large = context, library, large
        self.changes = 0
        """Grows with each change of profiles, value sets and code systems."""
        self._generation = 0
        self._enforced = _canonicals(settings.validation_enforce)
        self._required = _canonicals(settings.validation_require)
        wanted = (*self._enforced, *self._required)
        self._wanted_names = wanted
        self._wanted = {*wanted, *(one.partition("|")[0] for one in wanted)}
        refuses = settings.unknown_extensions == "refuse"
        own = Library(guide(settings.followup_canonical).resources)
        self._files: tuple[tuple[str, int], ...] = ()
        self._looked = float("-inf")
        self.room = ProfileRoom(
            lambda canonical: library.find(canonical) or own.find(canonical),
            refuses_unknown=refuses,
            supplements=library.supplements,
            large=large.find,
            refuses=frozenset(
                word
                for word, setting in ((MARKUP, settings.markup_in_texts), (EXAMPLES, settings.example_addresses))
                if setting == "refuse"
            ),
        )

    async def fresh(self) -> None:
        """Take up profiles and value sets that were written since."""
        now = time.monotonic()
        if now - self._looked > SECONDS:
            self._looked = now
            files = self.large.refresh()
            if files != self._files:
                self._files = files
                self.changes += 1
                self.room.forget()
        generation = await self.library.fresh()
        if generation != self._generation:
            self._generation = generation
            self.changes += 1
            self.room.forget()
            for canonical in self._wanted_names:
                if self.room.profile(canonical) is None:
                    why = self.room.fault_of(canonical) or "it is not known here"
                    log.warning("the settings name the profile %s, which is not looked at: %s", canonical, why)
            by_type = {type: list(profiles) for type, profiles in self.library.by_type.items()}
            for canonical in self._required:
                profile = self.room.profile(canonical)
                if profile is not None:
                    by_type.setdefault(profile.type, []).append(canonical)
            self.room.by_type = by_type

    def written(self, resource: dict[str, Any]) -> list[Issue]:
        """The errors for which a write is refused where the setting `validation` is `profiles`; what was looked up is that of `fresh`."""
        return [issue for issue in self.room.validate(resource) if issue.severity == "error" and self._counts(issue)]

    def _counts(self, issue: Issue) -> bool:
        """Whether an error refuses: of profiles only those that the site enforces, if it names some."""
        return not issue.profile or not self._enforced or not self._wanted.isdisjoint((issue.profile, issue.profile.partition("|")[0]))

    async def issues(self, principal: Principal, resource: Any, profiles: Sequence[str] = ()) -> list[Issue]:
        """All that is to be said of a resource, with what its references lead to."""
        found = structure.validate(resource)
        if not isinstance(resource, dict) or any(issue.syntax for issue in found):
            return found
        await self.fresh()
        others = await self._referred(principal, resource)
        entries = resource.get("entry")
        if isinstance(entries, list) and len(entries) > LARGE:
            return found + await asyncio.to_thread(self.room.validate, resource, list(profiles), resolve=others.get)
        return found + self.room.validate(resource, profiles, resolve=others.get)

    async def _referred(self, principal: Principal, resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Reference -> resource, of those that this server holds."""
        texts: dict[str, tuple[str, str]] = {}
        for one in references_in(resource):
            if len(texts) == REFERENCES:
                break
            if place := self._own(one["reference"]):
                texts[one["reference"]] = place
        stored = await self._context.gate.read_many(principal, list(dict.fromkeys(texts.values())))
        held = {(one.type, one.id): json_codec.loads(one.body) for one in stored}
        return {text: held[place] for text, place in texts.items() if place in held}

    def _own(self, reference: str) -> tuple[str, str] | None:
        """Type and id of a reference to a resource of this server."""
        parsed = parse_reference(reference)
        own = parsed.within(self._context.own_bases)
        return (parsed.type, parsed.id) if own and parsed.type in self._context.types else None


def _canonicals(setting: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in setting.split(",") if one.strip())
