"""Makes the snapshot of a StructureDefinition from its differential and its base, with those of the types and profiles it goes into.

Specification: https://hl7.org/fhir/R4/profiling.html#snapshot
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from fhir_server.model.references import CORE
from fhir_server.validation.snapshot.merge import SYSTEM, SnapshotError, capital, check_change, check_limits, merge
from fhir_server.validation.snapshot.tree import Definition, Disorder, Group, Node, elements_of, tree_of

Resolve = Callable[[str], "Mapping[str, Any] | None"]
"""Canonical (perhaps with |version) -> the StructureDefinition, or None."""

_BY_URL = {"discriminator": [{"type": "value", "path": "url"}], "ordered": False, "rules": "open"}
_BY_TYPE = {"discriminator": [{"type": "type", "path": "$this"}], "ordered": False, "rules": "open"}
_EXTENSIONS = ("extension", "modifierExtension")
_OF_ROOT = (
    "short",
    "definition",
    "comment",
    "requirements",
    "alias",
    "condition",
    "constraint",
    "mapping",
    "isModifier",
    "isModifierReason",
)
"""What an element with a profile takes from the root of that profile."""


class Generator:
    """Makes snapshots of what `resolve` finds; keeps those that it made."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._made: dict[str, list[Definition]] = {}
        self._within: list[str] = []

    def snapshot(self, profile: Mapping[str, Any]) -> list[Definition]:
        """The elements of the profile's snapshot: its own where it has one, else made from its differential.

        Raises SnapshotError where base, type or path is unknown, or a profile is built upon itself.
        """
        given: Sequence[Definition] | None = (profile.get("snapshot") or {}).get("element")
        if given:
            return list(given)
        name = f"{profile.get('url', '')}|{profile.get('version', '')}"
        made = self._made.get(name)
        if made is None:
            made = self.generate(profile)
            if profile.get("url"):
                self._made[name] = made
        return made

    def generate(self, profile: Mapping[str, Any], *, strict: bool = False) -> list[Definition]:
        """The elements made from the differential, whatever snapshot is there. Raises SnapshotError.

        `strict`: also where it permits fewer or more elements than its base, which is wrong and harmless: the base counts all the same.
        """
        url = str(profile.get("url") or profile.get("name") or "")
        if url in self._within:
            raise SnapshotError(f"the profile {url} is built upon itself: {' → '.join([*self._within, url])}")
        self._within.append(url)
        try:
            return self._generate(profile, url, strict)
        except Disorder as fault:
            raise SnapshotError(f"{url}: {fault}") from None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as fault:
            raise SnapshotError(f"{url}: the differential cannot be read as ElementDefinitions ({type(fault).__name__})") from None
        finally:
            self._within.pop()

    def _generate(self, profile: Mapping[str, Any], url: str, strict: bool) -> list[Definition]:
        canonical = profile.get("baseDefinition")
        if not canonical:
            raise SnapshotError(f"{url}: it has no baseDefinition")
        base = self._resolve(canonical)
        if base is None:
            raise SnapshotError(f"{url}: the base definition {canonical} is not known here")
        elements = self.snapshot(base)
        changes = (profile.get("differential") or {}).get("element") or []
        if profile.get("derivation") == "specialization":
            root = changes[0]["path"].partition(".")[0] if changes else str(profile.get("type"))
            top = tree_of([_rooted(one, root) for one in elements], root)
        else:
            root = elements[0]["path"]
            top = tree_of(deepcopy(elements), root)
        overlay = Overlay(self, top, url, profile.get("derivation") == "specialization", strict)
        overlay.apply(top, tree_of(changes, root, strict=True))
        return elements_of(top)

    def children(self, canonical: str, type: str, where: str) -> list[Group]:
        """The children of the root of a profile, or of the type where the profile is not known here, ready to be put elsewhere.

        Raises SnapshotError for an unknown type.
        """
        found = self._resolve(canonical) or self._resolve(type)
        if found is None:
            raise SnapshotError(f"{where}: the profile {canonical} is not known here")
        elements = self.snapshot(found)
        part = canonical.partition("#")[2]
        top = tree_of(elements, elements[0]["path"])
        if part:  # a part of a complex extension
            inner = top.group("extension")
            node = inner.find(part) if inner else None
            if node is None:
                raise SnapshotError(f"{where}: the extension {canonical} has no part {part}")
            return [group.copy() for group in node.groups]
        return [group.copy() for group in top.groups]

    def root(self, canonical: str) -> Definition | None:
        """The root element of a profile; None where it is not known, or just being made."""
        found = self._resolve(canonical)
        if found is None or str(found.get("url")) in self._within:
            return None
        return self.snapshot(found)[0]


def _rooted(element: Definition, root: str) -> Definition:
    """An inherited element at home in another type."""
    return {**deepcopy(element), "path": root + element["path"][element["path"].find(".") :] if "." in element["path"] else root}


class Overlay:
    """One differential being laid over a tree of the base. `adds`: it defines a new type, so that it may bring new elements."""

    def __init__(self, generator: Generator, top: Node, source: str, adds: bool, strict: bool) -> None:
        self._generator, self._source, self._adds, self._strict = generator, source, adds, strict
        self._before = top.copy()

    def apply(self, base: Node, change: Node, where: str = "") -> None:
        """Change a node of the base, and those below it."""
        where = where or base.name
        if "contentReference" in base.definition and (change.groups or "type" in change.definition):
            self._open(base, change.groups, where)
        check_change(base.definition, change.definition, where)
        if self._strict:
            check_limits(base.definition, change.definition, where)
        self._change(base, change.definition, alone=not change.groups)
        if change.groups:
            self._open(base, change.groups, where)
        for group in change.groups:
            self._group(base, group, f"{where}.{group.name}")

    def _change(self, base: Node, change: Definition, *, alone: bool) -> None:
        """`alone`: nothing is said of what stands below."""
        types = change.get("type")
        profiles = [url for one in types or () for url in one.get("profile", ())]
        if types and len(types) == 1 and len(profiles) == 1 and profiles != _profiles(base.definition):
            # What the element is, its profile says first; the differential may say it anew.
            root = self._generator.root(profiles[0].partition("#")[0]) if "#" not in profiles[0] else None
            if root is not None:
                base.definition |= {key: deepcopy(root[key]) for key in _OF_ROOT if key in root}
                if alone:
                    base.definition["max"] = root.get("max", "*")
                base.groups = []
        base.definition = merge(base.definition, change, self._source)

    # --- children
    def _open(self, node: Node, wanted: Sequence[Group], where: str) -> None:
        """Give a node the children of its type, where it has none of its own. `wanted`: those that are constrained."""
        if node.groups:
            return
        definition = node.definition
        reference = definition.get("contentReference")
        if reference:
            target = next((one for one in self._before.walk() if one.definition.get("id") == reference.rpartition("#")[2]), None)
            if target is None:
                raise SnapshotError(f"{where}: the content reference {reference} leads nowhere")
            node.groups = [group.copy() for group in target.groups]
            del definition["contentReference"]
            definition["type"] = deepcopy(target.definition.get("type", []))
            return
        types = definition.get("type") or []
        codes = {one.get("code") for one in types}
        simple = len(codes) == 1 and str(next(iter(codes))).startswith(SYSTEM)
        if simple or (len(codes) > 1 and {group.name for group in wanted} <= {"id", "extension"}):
            node.groups = self._generator.children(CORE + "Element", "", where)
            return
        if len(codes) > 1:
            codes = self._with_children(codes, {group.name for group in wanted}, where) or codes
        if len(codes) != 1:
            listed = ", ".join(sorted(map(str, codes))) or "no type"
            raise SnapshotError(
                f"{where}: children cannot be constrained while the element may be {listed}; constrain it to one type first"
            )
        profiles = _profiles(definition) if len(types) == 1 else []
        code = str(next(iter(codes)))
        type = code if "/" in code else CORE + code
        node.groups = self._generator.children(profiles[0] if len(profiles) == 1 else type, type, where)

    def _with_children(self, codes: set[Any], names: set[str], where: str) -> set[Any]:
        """The types, primitives aside, that have elements of these names: they are what constrained children of a choice can mean."""
        complex = [code for code in codes if str(code)[:1].isupper()]
        return {code for code in complex if names <= {group.name for group in self._generator.children(CORE + code, CORE + code, where)}}

    def _group(self, parent: Node, change: Group, where: str) -> None:
        base = parent.group(change.name)
        if base is None:
            named = self._choice(parent, change.name)
            if named is not None:
                self._by_type(parent, named, change, where)
                return
            if not self._adds:
                raise SnapshotError(f"{where}: the base has no such element")
            base = Group(change.name, Node(change.name, {}))
            parent.groups.append(base)
        assert base.whole is not None
        before = base.whole.copy() if change.slices else base.whole
        if change.whole is not None:
            self.apply(base.whole, change.whole, where)
            if base.whole.definition.get("max") == "0":
                base.slices = []
        if change.slices:
            self._sliced(base, change.name)
        for slice in change.slices:
            self._slice(base, slice, before, f"{where}:{slice.slice}")
            if change.name.endswith("[x]") and slice.definition.get("min"):
                self._only(base, slice)
        self._check_needed(base, where)

    def _check_needed(self, base: Group, where: str) -> None:
        """Raise SnapshotError where one type of a choice that occurs once must be there, and a slice is for another."""
        needed = [str(one.slice) for one in base.slices if one.definition.get("min")]
        if (
            base.name.endswith("[x]")
            and needed
            and len(base.slices) > 1
            and base.whole is not None
            and base.whole.definition.get("max") == "1"
        ):
            names = ", ".join(str(one.slice) for one in base.slices)
            raise SnapshotError(
                f"{where}: the element occurs once and must be {needed[0]}, which leaves no room for other slices ({names})"
            )

    def _sliced(self, base: Group, name: str) -> None:
        """The element says how it is sliced: extensions by their url, choices by type, whatever is left unsaid."""
        assert base.whole is not None
        definition = base.whole.definition
        slicing = definition.get("slicing")
        implied = _BY_URL if name in _EXTENSIONS else _BY_TYPE if name.endswith("[x]") else None
        if slicing is None and implied is None and not base.slices:
            raise SnapshotError(
                f"{self._source}: {name} has slices, but nothing before them says how it is sliced (only extensions may leave it out)"
            )
        if slicing is None and implied is not None:
            definition["slicing"] = deepcopy(implied)
        elif slicing is not None and implied is not None and not slicing.get("discriminator"):
            definition["slicing"] = {"discriminator": deepcopy(implied["discriminator"]), "ordered": False, **slicing}

    def _slice(self, base: Group, change: Node, before: Node, where: str) -> None:
        """`before`: the group's own element as the base has it; a new slice begins there."""
        name = str(change.slice)
        node = base.find(name)
        if node is None:
            outer = base.find(name.rpartition("/")[0]) if "/" in name else None
            node = (outer or before).copy()
            node.definition.pop("slicing", None)
            node.definition["sliceName"] = name
            node.definition["min"] = 0
            if base.name.endswith("[x]"):
                self._typed(node, base.name, name)
            at = len(base.slices)
            if outer is not None:
                at = 1 + max(
                    at for at, one in enumerate(base.slices) if one.slice == outer.slice or str(one.slice).startswith(f"{outer.slice}/")
                )
            base.slices.insert(at, node)
        self.apply(node, change, where)

    def _typed(self, node: Node, choice: str, slice: str) -> None:
        """The type of a slice of a choice that is named as the type's element is ('valueQuantity')."""
        suffix = slice.rpartition("/")[2].removeprefix(choice[:-3])
        types = [one for one in node.definition.get("type", []) if capital(one.get("code", "")) == suffix]
        if types:
            node.definition["type"] = types
            node.groups = node.groups if len({one.get("code") for one in node.definition.get("type", [])}) == 1 else []

    def _choice(self, parent: Node, name: str) -> Group | None:
        """The choice of which `name` ('valueQuantity') is one type."""
        for group in parent.groups:
            if name.endswith("[x]") and group.whole is not None and group.name.startswith(name[:-3]):
                return (
                    group
                    if any(capital(one.get("code", "")) == group.name[len(name) - 3 :] for one in group.whole.definition["type"])
                    else None
                )
            if group.name.endswith("[x]") and name.startswith(group.name[:-3]) and group.whole is not None:
                for one in group.whole.definition.get("type", []):
                    if capital(one.get("code", "")) == name[len(group.name) - 3 :]:
                        return group
        return None

    def _only(self, base: Group, slice: Node) -> None:
        """A type of a choice that must be there, or that is named as the only one, leaves no room for others: the element occurs once."""
        assert base.whole is not None
        found = base.find(str(slice.slice))
        if found is None or base.whole.definition.get("max") != "1":
            return
        types = found.definition.get("type", [])
        if len({one.get("code") for one in types}) == 1:
            code = types[0].get("code")
            base.whole.definition["type"] = [one for one in base.whole.definition["type"] if one.get("code") == code]
            base.whole.definition["min"] = max(base.whole.definition.get("min", 0), slice.definition.get("min", 0))
            base.whole.definition["slicing"] = {**base.whole.definition.get("slicing", _BY_TYPE), "rules": "closed"}

    def _by_type(self, parent: Node, choice: Group, change: Group, where: str) -> None:
        """A constraint on one type of a choice ('valueQuantity'): on the choice itself where it is the only type there, else on a slice.

        Inside of a slice a type that is named narrows the choice, as the reference implementation has it.
        """
        assert choice.whole is not None
        types = choice.whole.definition.get("type", [])
        for node in change.nodes():
            asked = {one.get("code") for one in node.definition.get("type", [])}
            inside = ":" in where and parent.name not in _EXTENSIONS
            if inside and len(asked) == 1 and not choice.slices:
                choice.whole.definition["type"] = [one for one in types if one.get("code") in asked]
            if len({one.get("code") for one in choice.whole.definition["type"]}) == 1 and not choice.slices:
                said = {key: value for key, value in node.definition.items() if key != "sliceName"}
                self.apply(choice.whole, Node(choice.name, said, node.groups), where)
                continue
            moved = Node(choice.name, {**node.definition, "sliceName": node.definition.get("sliceName") or change.name}, node.groups)
            before = choice.whole.copy()
            self._sliced(choice, choice.name)
            self._slice(choice, moved, before, where)
            if moved.definition.get("min") or parent.name in ("Extension", *_EXTENSIONS):
                self._only(choice, moved)
        self._check_needed(choice, where)


def _profiles(definition: Definition) -> list[str]:
    return [url for one in definition.get("type") or () for url in one.get("profile", ())]
