"""The profiles that are known here, compiled when they are first met, and the validation of resources against them.

Specification: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhir_server.errors import Issue
from fhir_server.fhirpath.items import Item
from fhir_server.model.definitions import Binding, Definitions, definitions
from fhir_server.model.references import CORE
from fhir_server.terminology.room import Large, Supplements, Terminology
from fhir_server.validation.profiles.base import BaseRules
from fhir_server.validation.profiles.check import Checker
from fhir_server.validation.profiles.compile import Compiler, UnknownType, profiles_of
from fhir_server.validation.profiles.context import EACH_ENTRY, Broken, Context, Probe, Resolve
from fhir_server.validation.profiles.discriminators import Matcher, matcher
from fhir_server.validation.profiles.referring import References
from fhir_server.validation.profiles.rules import Profile, Rules, Slicing
from fhir_server.validation.profiles.spots import Spot, entry_of, of_resource
from fhir_server.validation.profiles.terms import Terms
from fhir_server.validation.report import Enough, Path, Report
from fhir_server.validation.snapshot import Generator, SnapshotError
from fhir_server.validation.snapshot.tree import Group, Node, tree_of
from fhir_server.validation.values import listed

Source = Callable[[str], "Mapping[str, Any] | None"]
"""Canonical (perhaps with |version) -> StructureDefinition, ValueSet or CodeSystem, or None."""
R4 = frozenset({"4.0", "4.0.1"})
"""Versions by which R4's definitions name each other, whatever version they have themselves."""
KEPT = 1000
"""Profiles that stay compiled."""


class ProfileRoom:
    """Validates against the profiles, value sets and code systems that `source` finds; R4's own are known without it."""

    def __init__(
        self,
        source: Source | None = None,
        terminology: Terminology | None = None,
        known: Definitions | None = None,
        *,
        refuses_unknown: bool = False,
        allowed: tuple[str, ...] = (),
        by_type: Mapping[str, Sequence[str]] | None = None,
        supplements: Supplements | None = None,
        large: Large | None = None,
        refuses: frozenset[str] = frozenset(),
    ) -> None:
        """`refuses_unknown`: extensions without a known definition are errors, but for those whose url begins as one of `allowed`.

        `by_type`: profiles that each resource of a type must meet (`ImplementationGuide.global`). `refuses`: see `refusals`.
        """
        self.refuses_unknown, self.allowed, self.refuses = refuses_unknown, allowed, refuses
        self.by_type = by_type or {}
        self.known = known or definitions()
        self._source = source
        self._supplements, self._large = supplements, large
        self.terminology = terminology or Terminology(self.find, supplements, large)
        self.terms = Terms(self.terminology)
        self._generator = Generator(self.definition)
        self._compiler = Compiler(self.known)
        self._profiles: OrderedDict[str, Profile | None] = OrderedDict()
        self._faults: dict[str, str] = {}
        self._matchers: dict[int, tuple[Rules, Matcher]] = {}
        self._opened: dict[int, tuple[Node, list[Group]]] = {}
        self.base = BaseRules(self)
        self.references = References()

    # --- what is known
    def find(self, canonical: str) -> Mapping[str, Any] | None:
        """The resource of a canonical, or None; what a site has comes before R4's own."""
        found = self._source(canonical) if self._source else None
        return found if found is not None else self._official(canonical)

    def _official(self, canonical: str) -> Mapping[str, Any] | None:
        """R4's own resource, of the version that is named, if one is."""
        found = self.known.resource(canonical)
        version = canonical.partition("#")[0].partition("|")[2]
        own = str((found or {}).get("version", ""))
        return found if not version or own == version or own.startswith(version + ".") or version in R4 else None

    def definition(self, canonical: str) -> Mapping[str, Any] | None:
        """The StructureDefinition of a canonical: nobody redefines R4's own."""
        name = canonical.partition("#")[0]
        official = self._official(name) if name.startswith(CORE) else None
        for found in (official, self.find(name)):
            if found is not None and found.get("resourceType") == "StructureDefinition":
                return found
        return None

    def profile(self, canonical: str) -> Profile | None:
        """The compiled profile; None where it is not known here, or cannot be read (`fault_of` says why)."""
        if canonical in self._profiles:
            self._profiles.move_to_end(canonical)
            return self._profiles[canonical]
        definition = self.definition(canonical)
        made: Profile | None = None
        if definition is not None:
            try:
                part = canonical.partition("#")[2]
                made = self._compiler.profile(definition, self._generator.snapshot(definition), part)
            except (SnapshotError, UnknownType) as fault:
                self._faults[canonical] = str(fault)
            except (KeyError, TypeError, ValueError, AttributeError) as fault:
                self._faults[canonical] = f"the StructureDefinition cannot be read: {fault!r}"
        self._profiles[canonical] = made
        if len(self._profiles) > KEPT:
            self.forget()
        return made

    def fault_of(self, canonical: str) -> str:
        """Why a profile that is here cannot be used ('' where it can, or is not here)."""
        self.profile(canonical)
        return self._faults.get(canonical, "")

    def forget(self) -> None:
        """Compile all anew when it is met again: definitions have changed."""
        self._profiles.clear()
        self._faults.clear()
        self._matchers.clear()
        self._opened.clear()
        self._generator = Generator(self.definition)
        self.terminology = Terminology(self.find, self._supplements, self._large)
        self.terms = Terms(self.terminology)

    def laid_over(self, definition: Mapping[str, Any]) -> None:
        """Make the snapshot of a profile anew, only to see whether that can be done. Raises SnapshotError."""
        Generator(self.definition).generate(definition, strict=True)

    # --- parts of definitions
    def root(self, canonical: str) -> Node | None:
        """The tree of a profile or type."""
        profile = self.profile(canonical)
        return profile.root.node if profile else None

    def opened(self, node: Node) -> list[Group]:
        """The children of an element whose definition names none: those of its profile or type."""
        held = self._opened.get(id(node))
        if held is not None:
            return held[1]
        groups: list[Group] = []
        for row in node.definition.get("type", ()):
            code = str(row.get("code"))
            for canonical in (*profiles_of(row), code if "/" in code else CORE + code):
                definition = self.definition(canonical)
                if "#" in canonical and (profile := self.profile(canonical)):
                    groups = groups or profile.root.node.groups
                elif definition is not None and not groups:
                    try:
                        elements = self._generator.snapshot(definition)
                    except SnapshotError:
                        continue
                    groups = tree_of(elements, elements[0]["path"]).groups
        self._opened[id(node)] = (node, groups)
        return groups

    def matcher(self, slicing: Slicing, slice: Rules) -> Matcher:
        """The test of a slice, made once."""
        held = self._matchers.get(id(slice))
        if held is None:
            held = self._matchers[id(slice)] = (slice, matcher(slicing, slice, self))
        return held[1]

    # --- validating
    def validate(
        self,
        resource: dict[str, Any],
        profiles: Sequence[str] = (),
        *,
        resolve: Resolve | None = None,
        declared: bool = True,
        must_resolve: bool = False,
        entries: Sequence[tuple[str, int, str]] = (),
    ) -> list[Issue]:
        """What the rules of R4 and the profiles say of a resource that is right in structure.

        `profiles`: canonicals beside those that it declares (which count where `declared`). `resolve` finds what references lead to;
        with `must_resolve` what has to meet a profile must be found. `entries`: (type, number, profile) that an entry of a Bundle must
        meet, counted among those of its type.
        """
        report = Report()
        spot = of_resource(resource)
        context = Context(self, report, spot.item, spot.item, None, resolve, must_resolve=must_resolve)
        context.purse.left += EACH_ENTRY * len(listed(resource, "entry"))
        try:
            self.base.resource(spot, context, declared=declared)
            for canonical in profiles:
                self.check_named(canonical, spot, context, asked=True)
            for type, number, canonical in entries if spot.code == "Bundle" else ():
                inner = entry_of(spot, type, number)
                if inner is not None:
                    self.check_named(canonical, inner, context.inside(inner.item, contained=False), asked=True)
        except Enough:
            pass
        return report.issues

    def check_named(self, canonical: str, spot: Spot, context: Context, path: Path | None = None, *, asked: bool = False) -> None:
        """Check against a profile that somebody names; tells where it cannot be used.

        `path`: where it is named; `asked`: the validation is asked for this very profile, so that not knowing it is an error.
        """
        profile = self.profile(canonical)
        if profile is None:
            self.unknown(canonical, path or spot.path, context, named=True, asked=asked)
        elif profile.type != spot.code and profile.type not in spot.item.kind.bases:
            english = f"the profile {canonical} is for {profile.type}, not for {spot.code}"
            context.report.add(
                "structure",
                path or spot.path,
                english,
                f"规范 {canonical} 适用于 {profile.type}，而不是 {spot.code}",
                rule="profile-type",
                profile=canonical,
            )
        else:
            self.check(canonical, spot, context)

    def check(self, canonical: str, spot: Spot, context: Context) -> None:
        """Check an element against a known profile, once however often it is asked for within itself."""
        profile = self.profile(canonical)
        at = (id(spot.value), canonical)
        if profile is None or at in context.active:
            return
        context.active.add(at)
        for fault in profile.faults:
            english, chinese = f"a part of {canonical} was not checked: {fault}", f"规范 {canonical} 的一部分未检查：{fault}"
            context.report.add(
                "not-supported", spot.path, english, chinese, severity="warning", rule="profile-part", profile=profile.canonical
            )
        try:
            Checker(context, profile.canonical).element(profile.root, spot, context)
        finally:
            context.active.discard(at)

    def meets(self, spot: Spot, canonical: str, context: Context) -> bool:
        """Whether an element meets a profile; one that is not known here is met by what has its type."""
        profile = self.profile(canonical)
        if profile is None:
            return canonical.startswith(CORE) and canonical.removeprefix(CORE) in spot.item.kind.bases
        if profile.type != spot.code and profile.type not in spot.item.kind.bases:
            return False
        if (id(spot.value), canonical) in context.active:
            return True
        try:
            self.check(canonical, spot, replace(context, report=Probe()))
        except Broken:
            return False
        return True

    def in_value_set(self, canonical: str, item: Item, holder: Mapping[str, Any]) -> bool | None:
        """Whether a code is in a value set, which `holder` may contain (`#id`); None where that cannot be told."""
        if not canonical.startswith("#"):
            return self.terms.has_any(canonical, item)
        rows = holder.get("contained")
        inner = next((one for one in rows if one.get("id") == canonical[1:]), None) if isinstance(rows, list) else None
        if inner is None:
            return None
        local = Terms(Terminology(lambda url: inner if url == canonical else self.find(url)))
        return local.has_any(canonical, item)

    def conforms(self, resource: dict[str, Any], canonical: str, resolve: Resolve | None = None) -> bool:
        """Whether a resource meets a known profile, nothing else asked of it."""
        spot = of_resource(resource)
        return self.meets(spot, canonical, Context(self, Probe(), spot.item, spot.item, None, resolve))

    # --- what cannot be told
    def unknown(self, canonical: str, path: Path, context: Context, *, named: bool = False, asked: bool = False) -> None:
        """Tell that a profile is not known here, or cannot be read."""
        fault = self.fault_of(canonical)
        why, why_zh = (
            (f"cannot be used: {fault}", f"无法使用：{fault}")
            if fault
            else ("is not known here, so it was not checked", "此处未知，未检查")
        )
        severity = "error" if asked or (fault and named) else "warning"
        context.report.add(
            "not-found",
            path,
            f"the profile {canonical} {why}",
            f"规范 {canonical} {why_zh}",
            severity=severity,
            rule="profile-unknown",
            profile=canonical,
        )

    def unknown_set(self, binding: Binding, spot: Spot, context: Context, profile: str) -> None:
        """Tell that a value set is not here as a whole."""
        english = f"the value set {binding.value_set} is not here as a whole, so that the code was not checked against it"
        chinese = f"值集 {binding.value_set} 在此不完整，未检查编码"
        context.report.add("not-found", spot.path, english, chinese, severity="warning", rule="binding-unknown", profile=profile)

    def unsliced(self, rules: Rules, fault: str, path: Path, context: Context, profile: str) -> None:
        """Tell that a slice cannot be told from others."""
        context.report.add(
            "not-supported",
            path,
            f"the slice '{rules.node.slice}' was not checked: {fault}",
            f"切片“{rules.node.slice}”未检查：{fault}",
            severity="warning",
            rule="slicing",
            profile=profile,
        )
