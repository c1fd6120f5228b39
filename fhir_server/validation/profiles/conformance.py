"""Conformance resources: profiles that can be laid over their base, and search parameters that derive from others.

Specification: https://hl7.org/fhir/R4/structuredefinition.html#invs, https://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath import FhirPathError, compile_expression
from fhir_server.fhirpath.kinds import kind_of
from fhir_server.validation.profiles.discriminators import leads_to
from fhir_server.validation.profiles.spots import Spot
from fhir_server.validation.report import Path, shown
from fhir_server.validation.snapshot import SnapshotError
from fhir_server.validation.values import listed

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context


_ABSTRACT = frozenset({"Resource", "DomainResource", "Element", "BackboneElement"})


def check_structure(spot: Spot, context: Context) -> None:
    """A StructureDefinition: its type, its differential over its base, and the profiles that its elements name."""
    value: dict[str, Any] = spot.value
    room, add = context.room, context.report.add
    type_name, base = value.get("type"), value.get("baseDefinition")
    if not isinstance(type_name, str):
        return
    known = type_name in room.known.types
    if not known and "/" not in type_name:
        english = f"{shown(type_name)} is no type of FHIR; a type of one's own has an absolute URL"
        add("value", (spot.path, "type", -1), english, f"{shown(type_name)} 不是 FHIR 类型；自定义类型须用绝对 URL", rule="structure-type")
    if value.get("derivation") == "specialization" and isinstance(base, str):
        above = room.definition(base)
        if above is not None and above.get("type") == type_name and value.get("url") != above.get("url"):
            english = f"a specialization of {base} needs a type of its own, not {shown(type_name)}"
            add("value", (spot.path, "type", -1), english, f"{base} 的特化需要自己的类型，而不是 {shown(type_name)}", rule="structure-type")
    differential = value.get("differential")
    elements = listed(differential, "element") if isinstance(differential, dict) else []
    tail = type_name.rpartition("/")[2]
    for index, element in enumerate(elements):
        place = ((spot.path, "differential", -1), "element", index)
        root = str(element.get("path", "")).partition(".")[0]
        if root != tail:
            english = f"the path {shown(element.get('path'))} must begin with {tail}"
            add("value", (place, "path", -1), english, f"路径 {shown(element.get('path'))} 必须以 {tail} 开头", rule="structure-path")
        _check_discriminators(element, type_name, place, context)
        for row in listed(element, "constraint"):
            text = row.get("expression")
            if isinstance(text, str):
                try:
                    compile_expression(text)
                except FhirPathError as fault:
                    english = f"the expression of the constraint {row.get('key')} cannot be read: {fault}"
                    add("value", place, english, f"约束 {row.get('key')} 的表达式无法解析：{fault.zh}", rule="structure-constraint")
        for row in listed(element, "type"):
            for canonical in row.get("profile") or ():
                profile = room.profile(canonical) if isinstance(canonical, str) else None
                code = str(row.get("code"))
                if profile is not None and profile.type != code and not (code in _ABSTRACT and code in kind_of(profile.type).bases):
                    english = f"the profile {canonical} is for {profile.type}, but the type is {code}"
                    add("value", place, english, f"规范 {canonical} 适用于 {profile.type}，但类型是 {code}", rule="structure-profile")
    if isinstance(base, str) and room.definition(base) is None:
        english = f"the base definition {base} is not known here, so that the profile cannot be used"
        chinese = f"基础定义 {base} 此处未知，该规范无法使用"
        add("not-found", (spot.path, "baseDefinition", -1), english, chinese, severity="warning", rule="structure-base")
    if value.get("derivation") == "constraint" and elements and isinstance(base, str) and room.definition(base) is not None:
        try:
            room.laid_over(value)
        except SnapshotError as fault:
            place = (spot.path, "differential", -1)
            add("value", place, f"no snapshot can be made of it: {fault}", f"无法生成快照：{fault}", rule="structure-snapshot")


def _check_discriminators(element: dict[str, Any], type_name: str, place: Path, context: Context) -> None:
    """The path of a discriminator leads somewhere from the element that is sliced."""
    slicing = element.get("slicing")
    rows = listed(slicing, "discriminator") if isinstance(slicing, dict) else []
    base = context.room.root(f"http://hl7.org/fhir/StructureDefinition/{type_name}") if rows else None
    names = str(element.get("path", "")).split(".")[1:]
    if base is None or not names:
        return
    sliced = leads_to([base], ".".join(names), context.room)
    if not sliced:
        return
    for at, row in enumerate(rows):
        path = row.get("path")
        if isinstance(path, str) and path != "$this" and not leads_to(sliced, path, context.room):
            where = ((place, "slicing", -1), "discriminator", at)
            english = f"the path {shown(path)} of the discriminator leads nowhere from {element.get('path')}"
            chinese = f"鉴别路径 {shown(path)} 在 {element.get('path')} 下不存在"
            context.report.add("value", where, english, chinese, rule="structure-slicing")


def check_search_parameter(spot: Spot, context: Context) -> None:
    """A SearchParameter that derives from another has its type, and no base that the other lacks."""
    value: dict[str, Any] = spot.value
    derived = value.get("derivedFrom")
    origin = context.room.find(derived) if isinstance(derived, str) else None
    if origin is None or origin.get("resourceType") != "SearchParameter":
        return
    if value.get("type") != origin.get("type"):
        english = f"the type {shown(value.get('type'))} is another than that of {derived} ({origin.get('type')})"
        context.report.add(
            "value",
            (spot.path, "type", -1),
            english,
            f"类型 {shown(value.get('type'))} 与 {derived} 的 {origin.get('type')} 不同",
            rule="parameter-derived",
        )
    bases = set(origin.get("base") or ())
    foreign = [one for one in value.get("base") or () if bases.isdisjoint(kind_of(str(one)).bases)]
    if foreign:
        names = ", ".join(map(str, foreign))
        context.report.add(
            "value", (spot.path, "base", -1), f"{derived} is not for {names}", f"{derived} 不适用于 {names}", rule="parameter-derived"
        )
