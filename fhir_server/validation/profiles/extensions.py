"""Extensions: known ones meet their definition and stand where it allows; unknown modifiers are no small matter.

Specification: https://hl7.org/fhir/R4/extensibility.html, https://hl7.org/fhir/R4/defining-extensions.html#context
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath import FhirPathError, compile_expression
from fhir_server.fhirpath.kinds import kind_of
from fhir_server.model.references import ABSOLUTE
from fhir_server.validation.profiles.spots import Spot
from fhir_server.validation.report import shown

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context
    from fhir_server.validation.profiles.room import ProfileRoom

_OTHER_VERSION = tuple(f"http://hl7.org/fhir/{version}/StructureDefinition/extension-" for version in ("1.0", "3.0", "4.0", "4.3", "5.0"))
"""Extensions that stand for elements of other versions of FHIR have no definition of their own."""
_INTERFACES = frozenset({"CanonicalResource", "MetadataResource"})
"""Names that later versions of FHIR have for all resources with a canonical."""


class Extensions:
    """The checks of one extension where it stands."""

    def __init__(self, room: ProfileRoom) -> None:
        self._room = room

    def check(self, spot: Spot, holder: Spot, where: tuple[str, ...], context: Context, *, modifier: bool) -> None:
        """`holder`: the element that carries it; `where`: the names of that element (as an element of its type, and its type)."""
        url = spot.value.get("url")
        if not isinstance(url, str) or not url:
            return
        if not ABSOLUTE.match(url):
            if holder.code != "Extension":
                english = f"the url {shown(url)} of an extension must be absolute"
                context.report.add(
                    "value", (spot.path, "url", -1), english, f"扩展的 url {shown(url)} 必须是绝对地址", rule="extension-url"
                )
            else:
                self._part(url, holder, spot, context)
            return
        profile = self._room.profile(url)
        if profile is None:
            self._unknown(url, spot, context, modifier=modifier)
            return
        if profile.type != "Extension":
            english = f"{url} is a definition of {profile.type}, not of an extension"
            context.report.add(
                "structure", (spot.path, "url", -1), english, f"{url} 定义的是 {profile.type}，不是扩展", rule="extension-url"
            )
            return
        is_modifier = bool(profile.root.node.definition.get("isModifier"))
        if is_modifier != modifier:
            due, given = ("modifierExtension", "extension") if is_modifier else ("extension", "modifierExtension")
            english = f"the extension {url} must stand in {due}, not in {given}"
            context.report.add(
                "structure", spot.path, english, f"扩展 {url} 必须放在 {due} 而不是 {given} 中", rule="extension-modifier", profile=url
            )
        self._room.check(url, spot, context)
        rows = profile.definition.get("context") or []
        if rows and not any(self._fits(row, holder, where, context) for row in rows):
            listed = ", ".join(f"{row.get('type')} {row.get('expression')}" for row in rows)
            english = f"the extension {url} is not allowed on {' / '.join(dict.fromkeys(where))}, only on {listed}"
            chinese = f"扩展 {url} 不能用在此处，只能用于 {listed}"
            context.report.add("structure", spot.path, english, chinese, rule="extension-context", profile=url)
        self._invariants(profile.definition.get("contextInvariant") or (), holder, spot, url, context)

    def _part(self, url: str, holder: Spot, spot: Spot, context: Context) -> None:
        """A part of a complex extension is one that its definition names."""
        outer = str(holder.value.get("url")) if isinstance(holder.value, dict) else ""
        profile = self._room.profile(outer) if ABSOLUTE.match(outer) else None
        if profile is None:
            return
        group = profile.root.node.group("extension")
        parts = [one for one in (group.slices if group else ()) if one.slice]
        fixed = {inner.whole.definition.get("fixedUri") for one in parts if (inner := one.group("url")) and inner.whole}
        if parts and None not in fixed and url not in fixed:
            names = ", ".join(sorted(map(str, fixed)))
            english = f"the extension {outer} has no part {shown(url)}, only {names}"
            chinese = f"扩展 {outer} 没有 {shown(url)} 部分，只有 {names}"
            context.report.add("structure", spot.path, english, chinese, rule="extension-part", profile=outer)

    def _unknown(self, url: str, spot: Spot, context: Context, *, modifier: bool) -> None:
        fault = self._room.fault_of(url)
        why, why_zh = (f"cannot be used: {fault}", f"无法使用：{fault}") if fault else ("is not known here", "此处未知")
        strict = self._room.refuses_unknown and not url.startswith(self._room.allowed)
        severity = "error" if strict or (modifier and not url.startswith(_OTHER_VERSION)) else "information"
        context.report.add(
            "extension", spot.path, f"the extension {url} {why}", f"扩展 {url} {why_zh}", severity=severity, rule="extension-unknown"
        )

    def _fits(self, row: dict[str, Any], holder: Spot, where: tuple[str, ...], context: Context) -> bool:
        kind, text = row.get("type"), str(row.get("expression", ""))
        if kind == "extension":
            return holder.code == "Extension" and isinstance(holder.value, dict) and holder.value.get("url") == text
        if kind == "fhirpath":
            try:
                found = compile_expression(text).evaluate(context.root, context=context.root)
            except FhirPathError:
                return True
            return any(one.value is holder.value for one in found)
        names = {*where, *(base for name in where for base in kind_of(name).bases)}
        names |= {name.partition(":")[0] for name in names}
        if text.endswith("[x]"):
            return any(name.startswith(text[:-3]) for name in names) or text[:-3] in names
        if text in _INTERFACES:
            return holder.item.kind.resource and isinstance(holder.value, dict) and "url" in holder.item.kind.load()
        # R4's own definitions put the extension one level above where it says.
        if text == "ElementDefinition.type.code" and "ElementDefinition.type" in names:
            return True
        return text in names or text in ("Element", "*") or text.partition("#")[2] in names

    def _invariants(self, rows: Any, holder: Spot, spot: Spot, url: str, context: Context) -> None:
        for text in rows:
            try:
                holds = context.test(compile_expression(str(text)), holder)
            except FhirPathError:
                continue
            if holds is not True:
                english = f"the extension {url} is only allowed where {text}"
                context.report.add("structure", spot.path, english, f"扩展 {url} 仅当 {text} 时允许", rule="extension-context", profile=url)
