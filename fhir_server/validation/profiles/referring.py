"""References to resources that are at hand: their type, their profile, and whether they may be contained, bundled or elsewhere.

Specification: https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.type.aggregation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fhir_server.fhirpath.evaluation import Env
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.references import resolved
from fhir_server.model.references import CORE, parse_reference
from fhir_server.validation.profiles.rules import Type
from fhir_server.validation.profiles.spots import Spot, of_resource
from fhir_server.validation.report import shown

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context


class References:
    """What a profile says of the targets of references."""

    def check(self, spot: Spot, targets: list[str], types: list[Type], context: Context, profile: str) -> None:
        """`targets`: profiles of which the target must meet one (none: any)."""
        reference = spot.value.get("reference")
        if not isinstance(reference, str):
            return
        found = self.target(spot, context)
        allowed = {one for type in types for one in type.aggregation}
        if allowed and all(type.aggregation for type in types):
            how = (
                "contained" if reference.startswith("#") else "bundled" if found is not None and _bundled(found, context) else "referenced"
            )
            if how not in allowed and not (how == "bundled" and "referenced" in allowed):
                listed = ", ".join(sorted(allowed))
                english = f"{shown(reference)} is {how}, but only {listed} is allowed"
                chinese = f"{shown(reference)} 的引用方式是 {how}，只允许 {listed}"
                context.report.add("structure", spot.path, english, chinese, rule="aggregation", profile=profile)
        if not targets:
            return
        if found is None:
            self._named(spot, reference, targets, context, profile)
            return
        if found.code not in {one for url in targets for one in _types_of(url, context)} and not any(
            url == f"{CORE}Resource" for url in targets
        ):
            listed = ", ".join(targets)
            english = f"{shown(reference)} is a {found.code}, but {listed} is due"
            context.report.add(
                "structure", spot.path, english, f"{shown(reference)} 是 {found.code}，应为 {listed}", rule="target-type", profile=profile
            )
            return
        own = [url for url in targets if url.removeprefix(CORE) not in context.room.known.types]
        if own and len(own) == len(targets):
            inner = context.inside(found.item, contained=reference.startswith("#"))
            if not any(context.room.meets(found, url, inner) for url in own if found.code in _types_of(url, context)):
                listed = ", ".join(own)
                english = f"the target of {shown(reference)} does not meet {listed}"
                context.report.add(
                    "structure", spot.path, english, f"{shown(reference)} 的目标不符合 {listed}", rule="target-profile", profile=profile
                )

    def _named(self, spot: Spot, reference: str, targets: list[str], context: Context, profile: str) -> None:
        """What is not at hand says its type in the reference, or beside it."""
        own = [url for url in targets if url.removeprefix(CORE) not in context.room.known.types]
        if context.must_resolve and len(own) == len(targets):
            english = f"{shown(reference)} cannot be found, so that it cannot meet {', '.join(own)}"
            chinese = f"找不到 {shown(reference)}，无法确认其符合 {', '.join(own)}"
            context.report.add("not-found", spot.path, english, chinese, rule="target-profile", profile=profile)
        said = parse_reference(reference).type or spot.value.get("type")
        allowed = {one for url in targets for one in _types_of(url, context)} | ({said} if f"{CORE}Resource" in targets else set())
        if said in context.room.known.resource_types and said not in allowed:
            listed = ", ".join(targets)
            english = f"{shown(reference)} leads to a {said}, but {listed} is due"
            context.report.add(
                "structure", spot.path, english, f"{shown(reference)} 指向 {said}，应为 {listed}", rule="target-type", profile=profile
            )

    def target(self, spot: Spot, context: Context) -> Spot | None:
        """The resource that a Reference leads to, where it is contained, in the Bundle, or found by the port."""
        env = Env(context.resource, context.bundle or context.root, [], {}, None, context.find)
        found = resolved(spot.item, env)
        return of_resource(found.value, spot.path, found.parent) if isinstance(found, Item) and found.value.__class__ is dict else None


def _bundled(found: Spot, context: Context) -> bool:
    entries = context.bundle.value.get("entry", ()) if context.bundle else ()
    return any(entry.get("resource") is found.value for entry in entries if isinstance(entry, dict))


def _types_of(canonical: str, context: Context) -> tuple[str, ...]:
    name = canonical.removeprefix(CORE)
    if name in context.room.known.types:
        return (name,)
    profile = context.room.profile(canonical)
    return (profile.type,) if profile else tuple(context.room.known.resource_types)
