"""The rules of a profile on one element and all below it.

Specification: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/profiling.html#slicing
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath import FhirPathError
from fhir_server.model.definitions import Binding
from fhir_server.validation.profiles.context import Context
from fhir_server.validation.profiles.rules import GroupRules, Invariant, Rules, Slicing, Type
from fhir_server.validation.profiles.spots import Spot, below
from fhir_server.validation.profiles.terms import pairs_of
from fhir_server.validation.report import Path, shown
from fhir_server.validation.values import beyond, comparable, matches, missing, same

RESOURCES = ("Resource", "DomainResource")


class Checker:
    """Checks against one profile; `name` is its canonical, for messages."""

    def __init__(self, context: Context, name: str) -> None:
        self._context, self._name = context, name

    def element(self, rules: Rules, spot: Spot, context: Context) -> None:
        """All that the rules say of an element."""
        if rules.types is not None:
            self._type(rules.types, spot, context)
        if rules.fixed and not same(spot.value, rules.fixed[1]):
            have, due = _shown(spot.value), _shown(rules.fixed[1])
            self._add("value", spot.path, f"must be exactly {due}, not {have}", f"必须正好是 {due}，而不是 {have}", "fixed")
        if rules.pattern and not matches(spot.value, rules.pattern[1]):
            due, where = _shown(rules.pattern[1]), missing(spot.value, rules.pattern[1])
            at, at_zh = (f" (it falls short at {where})", f"（{where} 不符）") if where else ("", "")
            self._add("value", spot.path, f"must have at least {due}{at}", f"至少必须有 {due}{at_zh}", "pattern")
        self._limits(rules, spot)
        if rules.binding is not None:
            self.binding(rules.binding, spot, context)
        if rules.narrative is not None and spot.value.__class__ is dict:
            rules.narrative.check(
                spot.value,
                context.resource.value.get("language"),
                lambda en, zh, rule, severity: self._add("structure", spot.path, en, zh, rule, severity),
            )
        for invariant in rules.invariants:
            self.invariant(invariant, spot, context)
        for group in rules.groups:
            self._group(group, spot, context)

    def _add(self, code: str, path: Path, english: str, chinese: str, rule: str, severity: str = "error") -> None:
        self._context.report.add(code, path, english, chinese, severity=severity, rule=rule, profile=self._name)

    # --- types
    def _type(self, types: tuple[Type, ...], spot: Spot, context: Context) -> None:
        fitting = [one for one in types if one.code == spot.code or one.code in RESOURCES or one.code in spot.item.kind.bases]
        if not fitting:
            listed = " | ".join(dict.fromkeys(one.code for one in types))
            self._add("structure", spot.path, f"must be {listed}, not {spot.code}", f"类型必须是 {listed}，而不是 {spot.code}", "type")
            return
        profiles = [url for one in fitting for url in one.profiles]
        if profiles and spot.item.kind.name != "Extension":
            self._one_of(profiles, spot, context)
        targets = [url for one in fitting for url in one.targets]
        if spot.code == "Reference" and spot.value.__class__ is dict:
            context.room.references.check(spot, targets, fitting, context, self._name)

    def _one_of(self, profiles: list[str], spot: Spot, context: Context) -> None:
        """The element meets one of the profiles; with one only, it is told why it does not."""
        known = [url for url in profiles if context.room.profile(url) is not None]
        if len(known) < len(profiles):
            for url in profiles:
                if url not in known:
                    context.room.unknown(url, spot.path, context)
        if not known or len(known) < len(profiles):
            return
        if len(known) == 1:
            context.room.check(known[0], spot, context)
        elif not any(context.room.meets(spot, url, context) for url in known):
            listed = ", ".join(known)
            self._add("structure", spot.path, f"meets none of the profiles {listed}", f"不符合任何一个规范：{listed}", "profile")

    # --- values
    def _limits(self, rules: Rules, spot: Spot) -> None:
        if rules.max_length is not None and isinstance(spot.value, str) and len(spot.value) > rules.max_length:
            long, most = len(spot.value), rules.max_length
            self._add(
                "value",
                spot.path,
                f"has {long} characters, but at most {most} are allowed",
                f"有 {long} 个字符，最多 {most} 个",
                "max-length",
            )
        for limit, wrong, english, chinese in ((rules.lowest, -1, "at least", "至少"), (rules.highest, 1, "at most", "至多")):
            if limit is not None and spot.value is not None and beyond(spot.item, limit, wrong):
                due, have = _shown(limit[1]), _shown(spot.value)
                rule = "min-value" if wrong < 0 else "max-value"
                self._add("value", spot.path, f"must be {english} {due}, not {have}", f"{chinese}必须为 {due}，而不是 {have}", rule)
            elif limit is not None and spot.value is not None and not comparable(spot.item, limit):
                due, have = _shown(limit[1]), _shown(spot.value)
                told = f"{have} was not compared with the limit {due}, for nothing says how"
                self._add("not-supported", spot.path, told, f"{have} 无法与界限 {due} 比较，未检查", "limit-unknown", "warning")

    def binding(self, binding: Binding, spot: Spot, context: Context) -> None:
        """A code that must, or should, be of a value set."""
        pairs = pairs_of(spot.item)
        if pairs is None:
            return
        required = binding.strength == "required"
        if not pairs:
            self._uncoded(binding, spot)
            return
        found = context.room.terms.has_any(binding.value_set, spot.item)
        if found is None:
            context.room.unknown_set(binding, spot, context, self._name)
        elif not found:
            have = ", ".join(shown(code if system is None else f"{system}|{code}") for system, code in pairs[:5])
            english = f"{have} is not in the {binding.strength} value set {binding.value_set}"
            chinese = f"{have} 不在{'必需' if required else '可扩展'}值集 {binding.value_set} 中"
            self._add("code-invalid", spot.path, english, chinese, "binding", "error" if required else "warning")

    def _uncoded(self, binding: Binding, spot: Spot) -> None:
        """A concept without a code: against a required binding, unless it says why."""
        value = spot.value
        if binding.strength != "required" or value.__class__ is not dict or spot.code not in ("CodeableConcept", "Coding"):
            return
        if "extension" in value and "text" not in value:
            return
        english = f"has no code, but one of the required value set {binding.value_set} is due"
        self._add("code-invalid", spot.path, english, f"没有编码，必须有必需值集 {binding.value_set} 中的编码", "binding")

    def invariant(self, invariant: Invariant, spot: Spot, context: Context) -> None:
        """A constraint of a profile."""
        if invariant.expression is None:
            if invariant.fault:
                english = f"the rule {invariant.key} ({invariant.human}) was not checked: its expression cannot be read: {invariant.fault}"
                chinese = f"规则 {invariant.key} 未检查：其表达式无法解析"
                self._add("processing", spot.path, english, chinese, invariant.key, "warning")
            return
        try:
            holds = context.test(invariant.expression, spot)
        except FhirPathError as fault:
            english = f"the rule {invariant.key} ({invariant.human}) cannot be decided: {fault}"
            self._add("processing", spot.path, english, f"规则 {invariant.key} 无法判定：{fault.zh}", invariant.key, "warning")
            return
        if holds is not True:
            undecided = context.undecided()
            severity = "error" if invariant.severity == "error" and not undecided else "warning"
            why = f"; not decided, for {context.missed[0]} is not looked at here" if undecided else ""
            english = f"{invariant.human} ({invariant.key}){why}"
            self._add("invariant", spot.path, english, f"违反规则 {invariant.key}：{invariant.human}", invariant.key, severity)

    # --- children
    def _group(self, group: GroupRules, spot: Spot, context: Context) -> None:
        if group.only and group.holder.name not in spot.item.kind.bases:
            return
        found = below(spot, group.holder, group.element)
        if group.min or group.max is not None:
            self._count(len(found), group.min, group.max, (spot.path, group.element.name, -1))
        for one in found:
            if group.whole is not None:
                self.element(group.whole, one, _inner(one, group, context))
        if group.slicing is not None:
            self._slices(group.slicing, found, (spot.path, group.element.name, -1), context, group)

    def _count(self, have: int, low: int, high: int | None, path: Path, slice: str = "") -> None:
        what, what_zh = (f"the slice '{slice}' ", f"切片“{slice}”") if slice else ("the element ", "该元素")
        if have < low:
            due = "is required (minimum 1), but it is missing" if low == 1 and not have else f"must occur at least {low} times, not {have}"
            self._add("required", path, f"{what}{due}", f"{what_zh}至少出现 {low} 次，实际 {have} 次", "cardinality")
        elif high is not None and have > high:
            due = "must not be there" if not high else f"may occur at most {high} times, not {have}"
            self._add("structure", path, f"{what}{due}", f"{what_zh}最多出现 {high} 次，实际 {have} 次", "cardinality")

    def _slices(self, slicing: Slicing, spots: list[Spot], path: Path, context: Context, group: GroupRules) -> None:
        """Each element belongs to the first slice whose discriminators hold."""
        matchers = [context.room.matcher(slicing, slice) for slice in slicing.slices]
        members: list[list[Spot]] = [[] for _ in slicing.slices]
        last, outside = -1, False
        others: list[Spot] = []
        for spot in spots:
            inner = _inner(spot, group, context)
            at = next((at for at, one in enumerate(matchers) if one.test(spot, inner)), None)
            if at is None:
                outside = True
                others.append(spot)
                if slicing.default is None and slicing.rules == "closed" and not any(one.fault for one in matchers):
                    names = ", ".join(str(slice.node.slice) for slice in slicing.slices)
                    english = f"it belongs to none of the slices ({names}), and no other is allowed"
                    self._add("structure", spot.path, english, f"不属于任何允许的切片（{names}）", "slicing-closed")
                continue
            if outside and slicing.rules == "openAtEnd":
                name = slicing.slices[at].node.slice
                self._add(
                    "structure",
                    spot.path,
                    f"the slice '{name}' must stand before all others",
                    f"切片“{name}”必须在其他元素之前",
                    "slicing-order",
                )
            if slicing.ordered and at < last:
                name, before = slicing.slices[at].node.slice, slicing.slices[last].node.slice
                english = f"the slice '{name}' must stand before the slice '{before}'"
                self._add("structure", spot.path, english, f"切片“{name}”必须在切片“{before}”之前", "slicing-order")
            last = max(last, at)
            members[at].append(spot)
        for rules, matcher, mine in zip(slicing.slices, matchers, members, strict=True):
            if matcher.fault:
                context.room.unsliced(rules, matcher.fault, path, context, self._name)
                continue
            self._count(len(mine), rules.min, rules.max, path, str(rules.node.slice))
            for spot in mine:
                self.element(rules, spot, _inner(spot, group, context))
            if rules.slicing is not None:
                self._slices(rules.slicing, mine, path, context, group)
        if slicing.default is not None and not any(one.fault for one in matchers):
            self._count(len(others), slicing.default.min, slicing.default.max, path, str(slicing.default.node.slice))
            for spot in others:
                self.element(slicing.default, spot, _inner(spot, group, context))


def _inner(spot: Spot, group: GroupRules, context: Context) -> Context:
    """The context of what stands in an element: a resource in it is one of its own."""
    if spot.value.__class__ is dict and "resourceType" in spot.value and spot.item.kind.resource:
        return context.inside(spot.item, contained=group.element.name == "contained")
    return context


def _shown(value: Any) -> str:
    """A value in a message; of an object its parts."""
    if isinstance(value, dict):
        parts = ", ".join(f"{key}: {_shown(inner)}" for key, inner in list(value.items())[:6])
        return f"{{{parts}}}"[:300]
    if isinstance(value, list):
        return f"[{', '.join(_shown(one) for one in value[:4])}]"[:300]
    return shown(value)
