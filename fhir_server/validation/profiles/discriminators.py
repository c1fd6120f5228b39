"""Which slice an element belongs to: what a slice's definition says at the paths of the discriminators, as a test of elements.

Specification: https://hl7.org/fhir/R4/profiling.html#discriminator
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhir_server.fhirpath import Expression, FhirPathError, compile_expression
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.references import reference_type
from fhir_server.validation.profiles.compile import choice_of
from fhir_server.validation.profiles.context import Context
from fhir_server.validation.profiles.rules import Rules, Slicing
from fhir_server.validation.profiles.spots import Spot, of_resource
from fhir_server.validation.snapshot.tree import Node
from fhir_server.validation.values import matches, same

if TYPE_CHECKING:
    from fhir_server.validation.profiles.room import ProfileRoom

ItemTest = Callable[[Item, Context], "bool | None"]
_STEP = re.compile(r"\$this|extension\('([^']+)'\)|(resolve)\(\)|(?:ofType|as)\(([\w.]+)\)|([A-Za-z]\w*)(?:\[x\])?")


@dataclass(slots=True)
class Matcher:
    """The test of one slice; `fault` says why there is none."""

    test: Callable[[Spot, Context], bool]
    fault: str = ""


def matcher(slicing: Slicing, slice: Rules, room: ProfileRoom) -> Matcher:
    """The test whether an element belongs to a slice: all of the discriminators hold."""
    tests: list[Callable[[Spot, Context], bool]] = []
    for kind, path in slicing.discriminators:
        try:
            made = _discriminator(kind, path, slice.node, room)
        except (FhirPathError, ValueError) as fault:
            return Matcher(lambda spot, context: False, f"the discriminator {kind} {path} cannot be used: {fault}")
        if made is None:
            what = f"the definition of the slice {slice.node.slice} says nothing by which {kind} {path} could tell its elements"
            return Matcher(lambda spot, context: False, what)
        tests.append(made)
    if not tests:
        return Matcher(lambda spot, context: False, "the slicing has no discriminator")
    if len(tests) == 1:
        return Matcher(tests[0])
    return Matcher(lambda spot, context: all(test(spot, context) for test in tests))


def _discriminator(kind: str, path: str, node: Node, room: ProfileRoom) -> Callable[[Spot, Context], bool] | None:
    steps = _steps(path)
    ends = _walk([node], steps, room)
    expression = _compiled(path)

    referring = bool(steps) and steps[-1][0] == "resolve"
    before = _compiled(path.rpartition("resolve()")[0].rstrip(".")) if referring else None

    def items(spot: Spot, context: Context) -> list[Item]:
        return [spot.item] if expression is None else context.items(expression, spot.item)

    def refers_to(types: AbstractSet[str], spot: Spot, context: Context) -> bool:
        references = [spot.item] if before is None else context.items(before, spot.item)
        return any(reference_type(one.value) in types for one in references)

    if kind == "exists":
        return _exists(ends, items)
    if not ends:
        return None
    if kind == "type":
        codes = _type_codes(ends)
        if not codes:
            return None

        def of_type(spot: Spot, context: Context) -> bool:
            found = items(spot, context)
            if referring and not found:  # what cannot be had says its type in the reference
                return refers_to(codes, spot, context)
            return any(not codes.isdisjoint(item.kind.bases) for item in found) or spot.code in codes

        return of_type
    if kind == "profile":
        holders, named = (_walk([node], steps[:-1], room), "targetProfile") if referring else (ends, "profile")
        profiles = [url for end in holders for row in end.definition.get("type", ()) for url in row.get(named, ())]
        if not profiles:
            return None
        types = {profile.type for url in profiles if (profile := room.profile(url))}

        def conforms(spot: Spot, context: Context) -> bool:
            if referring and context.resolve is None and not items(spot, context):  # nothing elsewhere is looked at: its type decides
                return refers_to(types, spot, context)
            return any(room.meets(_spot(item, spot), url, context) for item in items(spot, context) for url in profiles)

        return conforms
    if all(end.definition.get("max") == "0" for end in ends):
        return _exists(ends, items)
    tests = [test for end in ends if (test := identity(end, room)) is not None]
    if not tests:
        return _exists(ends, items)
    return lambda spot, context: any(test(item, context) for item in items(spot, context) for test in tests)


def _compiled(path: str) -> Expression | None:
    """A path as an expression; None of the element itself."""
    return None if path in ("", "$this") else compile_expression(path.replace("[x]", ""))


def _exists(ends: list[Node], items: Callable[[Spot, Context], list[Item]]) -> Callable[[Spot, Context], bool] | None:
    if any(end.definition.get("max") == "0" for end in ends):
        return lambda spot, context: not items(spot, context)
    if any(end.definition.get("min") for end in ends):
        return lambda spot, context: bool(items(spot, context))
    return None


def _spot(item: Item, spot: Spot) -> Spot:
    if item.value.__class__ is dict and "resourceType" in item.value:
        return of_resource(item.value, spot.path, item.parent)
    return Spot(item, spot.path, item.kind.name)


def _type_codes(ends: list[Node]) -> frozenset[str]:
    """The types that the ends may have."""
    codes: set[str] = set()
    for end in ends:
        rows = end.definition.get("type", ())
        if not rows and "." not in end.definition.get("path", end.name):
            codes.add(end.name)  # the root of a profile of a resource
        for row in rows:
            codes.add(str(row.get("code")))
    return frozenset(codes)


# --- along a path of a definition


def _steps(path: str) -> list[tuple[str, str]]:
    """(kind, text) of each step: this, extension, resolve, type, name. Raises ValueError for what a discriminator may not hold."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise ValueError(f"'{path}' is none of the simple paths that discriminators may have")
        if step[1]:
            found.append(("extension", step[1]))
        elif step[2]:
            found.append(("resolve", ""))
        elif step[3]:
            found.append(("type", step[3].removeprefix("FHIR.")))
        elif step[4]:
            found.append(("name", step[4]))
        at = step.end()
        if at < len(path):
            if path[at] != ".":
                raise ValueError(f"'{path}' is none of the simple paths that discriminators may have")
            at += 1
    return found


def _walk(nodes: list[Node], steps: list[tuple[str, str]], room: ProfileRoom) -> list[Node]:
    for kind, text in steps:
        following: list[Node] = []
        for node in nodes:
            if kind == "name":
                following += _named(node, text, room)
            elif kind == "extension":
                following += [one for one in _named(node, "extension", room) if one.slice and text in _extension_urls(one, room)]
            elif kind == "resolve":
                targets = [url for row in node.definition.get("type", ()) for url in row.get("targetProfile", ())]
                following += [root for url in targets if (root := room.root(url)) is not None]
            else:
                rows = [row for row in node.definition.get("type", ()) if row.get("code") == text]
                following += [Node(node.name, {**node.definition, "type": rows}, node.groups)] if rows else []
        nodes = following
    return nodes


def leads_to(nodes: list[Node], path: str, room: ProfileRoom) -> list[Node]:
    """Where a simple path leads from some definitions; where it cannot be told (extensions, what references lead to), the start itself."""
    try:
        steps = _steps(path)
    except ValueError:
        return []
    for kind, text in steps:
        if kind in ("extension", "resolve"):
            return nodes
        nodes = _walk(nodes, [(kind, text)], room)
    return nodes


def _named(node: Node, name: str, room: ProfileRoom) -> list[Node]:
    """The definitions of the children of a name: that of all, and of the slices that must be there."""
    groups = room.opened(node) if not node.groups or _profiled(node) else node.groups
    for group in groups:
        if group.name in (name, name + "[x]") and group.whole is not None:
            slices = group.slices if name == "extension" else [one for one in group.slices if one.definition.get("min")]
            return [group.whole, *slices]
    return []


def _profiled(node: Node) -> bool:
    return any("_profile" in row for row in node.definition.get("type", ()))


def _extension_urls(node: Node, room: ProfileRoom) -> list[str]:
    profiles = [url for row in node.definition.get("type", ()) for url in row.get("profile", ())]
    own = [end.definition["fixedUri"] for end in _named(node, "url", room) if "fixedUri" in end.definition] if node.groups else []
    return [*own, *(url.partition("|")[0] for url in profiles)]


# --- what tells an element


def identity(node: Node, room: ProfileRoom) -> ItemTest | None:
    """What a definition says by which elements can be told: fixed value, pattern, required binding, or that of what must stand below."""
    said = node.definition
    fixed = choice_of(said, "fixed")
    if fixed is not None:
        return lambda item, context: same(item.value, fixed[1])
    pattern = choice_of(said, "pattern")
    if pattern is not None:
        return lambda item, context: matches(item.value, pattern[1])
    tests: list[tuple[str, ItemTest]] = []
    for group in node.groups:
        for child in group.nodes():
            if child is group.whole or child.definition.get("min"):
                made = identity(child, room)
                if made is not None:
                    tests.append((group.name.removesuffix("[x]"), made))
    binding = said.get("binding") or {}
    if not tests and binding.get("strength") == "required" and binding.get("valueSet"):
        value_set = str(binding["valueSet"])
        return lambda item, context: room.terms.has_any(value_set, item)
    profiles = [url for row in said.get("type", ()) for url in row.get("profile", ())]
    if not tests and profiles:
        return lambda item, context: any(room.meets(Spot(item, (None, "", -1), item.kind.name), url, context) for url in profiles)
    if not tests:
        return None
    compiled: list[tuple[Expression, ItemTest]] = [(compile_expression(f"`{name}`"), test) for name, test in tests]
    return lambda item, context: all(any(test(one, context) for one in context.items(step, item)) for step, test in compiled)
