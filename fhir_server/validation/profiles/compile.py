"""Compiles the snapshot of a StructureDefinition into rules; what the type itself demands is left to the structural validation.

Specification: https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.fhirpath import FhirPathError, compile_expression
from fhir_server.model.definitions import Binding, Constraint, Definitions, ElementDef, TypeDef
from fhir_server.model.references import CORE
from fhir_server.validation.primitives import PRIMITIVES
from fhir_server.validation.profiles.narratives import control_of
from fhir_server.validation.profiles.rules import GroupRules, Invariant, Profile, Rules, Slicing, Type
from fhir_server.validation.snapshot.merge import SYSTEM
from fhir_server.validation.snapshot.tree import Definition, Group, Node, tree_of

_EVERYWHERE = frozenset({"ele-1", "ext-1"})
"""Constraints that the structural validation looks at."""


class UnknownType(Exception):
    """A definition of a type that is none of R4's (a logical model): resources cannot be held against it."""


class Compiler:
    """Compiles profiles over one set of definitions of the types."""

    def __init__(self, known: Definitions) -> None:
        self._known = known

    def profile(self, definition: Mapping[str, Any], elements: list[Definition], part: str = "") -> Profile:
        """The rules of a profile with this snapshot, or of the element of it that has the id `part`.

        Raises UnknownType for a type that R4 does not have, KeyError for an id that the profile does not have.
        """
        type_name = str(definition["type"])
        if type_name not in self._known.types:
            raise UnknownType(f"it defines the type {type_name}, which is none of R4's")
        top = tree_of(elements, elements[0]["path"])
        holder = self._known.types[type_name]
        version = definition.get("version")
        url = str(definition.get("url", ""))
        canonical = f"{url}|{version}" if version else url
        work = _Work(self._known)
        node = top if not part else {str(one.definition.get("id")): one for one in top.walk()}[part]
        if part:
            type_name = str(node.definition["type"][0]["code"])
            holder = self._known.types[node.definition.get("base", {}).get("path", type_name) if type_name in _ABSTRACT else type_name]
        root = work.rules(node, None, holder, part or type_name)
        return Profile(canonical, type_name, root, dict(definition), work.faults)


class _Work:
    """One profile being compiled."""

    def __init__(self, known: Definitions) -> None:
        self._known = known
        self.faults: list[str] = []

    def rules(self, node: Node, element: ElementDef | None, holder: TypeDef | None, id: str) -> Rules:
        """The rules of one element. `holder`: the type whose elements stand below it, None where it can have several."""
        said = node.definition
        made = Rules(id, node)
        made.types = self._types(said, element)
        made.fixed, made.pattern = choice_of(said, "fixed"), choice_of(said, "pattern")
        made.lowest, made.highest = choice_of(said, "minValue"), choice_of(said, "maxValue")
        made.max_length = said.get("maxLength")
        made.binding = _binding(said, element)
        made.narrative = control_of(said)
        base = {one.key for one in self._base_constraints(element, holder)} | _EVERYWHERE
        made.invariants = [_invariant(one) for one in said.get("constraint", ()) if one.get("key") not in base]
        if holder is not None:
            several = len({row.get("code") for row in said.get("type", ())}) > 1
            for group in node.groups:
                rules = self._group(group, holder, f"{id}.{group.name}")
                if rules is not None:
                    rules.only = several
                    made.groups.append(rules)
        return made

    def _base_constraints(self, element: ElementDef | None, holder: TypeDef | None) -> Iterable[Constraint]:
        if element is not None:
            yield from element.constraints
        current: str | None = holder.name if holder else None
        while current:
            definition = self._known.types[current]
            yield from definition.constraints
            current = definition.base

    def _types(self, said: Definition, element: ElementDef | None) -> tuple[Type, ...] | None:
        """The types where the profile narrows them, or demands profiles of them."""
        if element is None or "type" not in said:
            return None
        rows = [
            Type(
                str(row.get("code")),
                tuple(url for url in profiles_of(row) if url != CORE + str(row.get("code"))),
                tuple(row.get("targetProfile", ())),
                tuple(row.get("aggregation", ())),
            )
            for row in said["type"]
        ]
        if any(row.code.startswith(SYSTEM) for row in rows):
            return None
        codes = {ref.code for ref in element.types}
        base_targets = {CORE + target for ref in element.types for target in ref.targets}
        narrowed = {row.code for row in rows} != codes
        if narrowed or any(row.profiles or row.aggregation or set(row.targets) - base_targets for row in rows):
            return tuple(rows)
        fewer = any(row.targets and base_targets - set(row.targets) for row in rows if row.code in ("Reference", "canonical"))
        return tuple(rows) if fewer else None

    def _group(self, group: Group, holder: TypeDef, id: str) -> GroupRules | None:
        name = group.name.removesuffix("[x]")
        element = holder.elements.get(name)
        if element is None:
            self.faults.append(f"{id}: the type {holder.name} has no such element")
            return None
        if group.whole is None:  # some snapshots of R4 name the element itself as if it were a slice
            group = Group(group.name, group.slices[0], group.slices[1:])
            assert group.whole is not None
        said = group.whole.definition
        made = GroupRules(element, holder)
        low, high = int(said.get("min", 0)), _max(said)
        made.min = low if low > element.min else 0
        made.max = high if high is not None and (element.max is None or high < element.max) else None
        whole = self.rules(group.whole, element, self._inner(group.whole, element, holder), id)
        made.whole = None if whole.says_nothing else whole
        slicing = said.get("slicing")
        if group.slices and slicing:
            slices = [self._slice(node, element, holder, f"{id}:{node.slice}") for node in group.slices]
            made.slicing = _slicing(slicing, [one for one in slices if "/" not in str(one.node.slice)])
            for one in slices:
                again = [inner for inner in slices if str(inner.node.slice).rpartition("/")[0] == one.node.slice]
                if again:
                    made_again = one.node.definition.get("slicing") or slicing
                    one.slicing = _slicing(made_again, again)
        elif slicing and slicing.get("rules") == "closed" and name in ("extension", "modifierExtension"):
            made.slicing = _slicing(slicing, [])
        nothing = made.whole is None and made.slicing is None and not made.min and made.max is None
        return None if nothing else made

    def _slice(self, node: Node, element: ElementDef, holder: TypeDef, id: str) -> Rules:
        rules = self.rules(node, element, self._inner(node, element, holder), id)
        rules.min, rules.max = int(node.definition.get("min", 0)), _max(node.definition)
        return rules

    def _inner(self, node: Node, element: ElementDef, holder: TypeDef) -> TypeDef | None:
        """The type whose elements stand below an element; of several types the one that has the children which are named there."""
        codes = {row.get("code") for row in node.definition.get("type", ())}
        if len(codes) > 1:
            names = {group.name.removesuffix("[x]") for group in node.groups}
            complex = (self._known.types[str(code)] for code in sorted(map(str, codes)) if str(code)[:1].isupper())
            shared = self._known.types["Element"]
            return shared if names <= shared.elements.keys() else next((one for one in complex if names <= one.elements.keys()), shared)
        code = next(iter(codes), None)
        for json, its_code in element.json_names.items():
            if its_code == code or len(element.json_names) == 1:
                name = holder.by_json[json][1]
                if name in ("Resource", "DomainResource") and code in self._known.types:
                    return self._known.types[str(code)]
                return self._known.types.get(name)
        return None


def _invariant(row: Mapping[str, Any]) -> Invariant:
    key, severity, human = str(row.get("key", "")), str(row.get("severity", "error")), str(row.get("human", ""))
    text = row.get("expression")
    if not text:
        return Invariant(key, severity, human, None)
    try:
        return Invariant(key, severity, human, compile_expression(text))
    except FhirPathError as fault:
        return Invariant(key, severity, human, None, str(fault))


def profiles_of(row: Mapping[str, Any]) -> Iterable[str]:
    """The profiles of a type, of which an extension may name one element."""
    besides = row.get("_profile", ())
    for at, url in enumerate(row.get("profile", ())):
        beside = besides[at] if at < len(besides) and besides[at] else {}
        part = next((one.get("valueString", "") for one in beside.get("extension", ()) if one.get("url") == _PART), "")
        yield f"{url}#{part}" if part else url


_PART = CORE + "elementdefinition-profile-element"
_ABSTRACT = frozenset({"BackboneElement", "Element"})
DEFAULT = "@default"


def _slicing(said: Mapping[str, Any], slices: list[Rules]) -> Slicing:
    discriminators = tuple((str(one.get("type")), str(one.get("path", "$this"))) for one in said.get("discriminator", ()))
    default = next((one for one in slices if one.node.slice == DEFAULT), None)
    others = [one for one in slices if one is not default]
    return Slicing(discriminators, str(said.get("rules", "open")), bool(said.get("ordered")), others, default)


def _max(said: Definition) -> int | None:
    most = said.get("max", "*")
    return None if most == "*" else int(most)


def choice_of(said: Definition, family: str) -> tuple[str, Any] | None:
    """The value of `fixed[x]` and the like, with its type as written in the name."""
    for key, value in said.items():
        if key.startswith(family) and len(key) > len(family):
            name = key[len(family) :]
            lower = name[:1].lower() + name[1:]
            return (lower if lower in PRIMITIVES else name), value
    return None


def _binding(said: Definition, element: ElementDef | None) -> Binding | None:
    """The binding where it is not that of the type."""
    row = said.get("binding")
    if not row or not row.get("valueSet"):
        return None
    made = Binding(str(row.get("strength")), str(row["valueSet"]))
    base = element.binding if element else None
    if base is not None and base.strength == made.strength and base.value_set.partition("|")[0] == made.value_set.partition("|")[0]:
        return None
    return made if made.strength in ("required", "extensible") else None
