"""What R4 says of each resource beyond its structure: invariants, extensions, codes of known systems, and the profiles that it declares.

One walk over all elements. Specification: https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fhir_server.fhirpath import Expression, FhirPathError, compile_expression
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.kinds import Kind, kind_of
from fhir_server.model.definitions import FOLDER, Binding, Constraint
from fhir_server.model.references import ABSOLUTE
from fhir_server.terminology.countries import ISO_3166
from fhir_server.terminology.value_sets import GROWING
from fhir_server.validation.profiles.bundles import check_bundle
from fhir_server.validation.profiles.conformance import check_search_parameter, check_structure
from fhir_server.validation.profiles.extensions import Extensions
from fhir_server.validation.profiles.measures import check_measure_report
from fhir_server.validation.profiles.refusals import check_refusals
from fhir_server.validation.profiles.spots import Spot, of_resource
from fhir_server.validation.profiles.terms import same_display
from fhir_server.validation.questionnaires import ResponseCheck
from fhir_server.validation.report import Path, shown
from fhir_server.validation.values import listed

if TYPE_CHECKING:
    from fhir_server.validation.profiles.context import Context
    from fhir_server.validation.profiles.room import ProfileRoom

IN_STRUCTURE = frozenset(
    ("ele-1", "ext-1", "ref-1", "txt-1", "txt-2", "inv-1@Parameters.parameter", "dom-2", "dom-3", "dom-4", "dom-5")
) | {f"bdl-{number}" for number in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12)}
"""Invariants that the structural validation looks at, by `keyed`."""


def keyed(constraint: Constraint, type_name: str) -> str:
    """The key of an invariant, with its type where R4 uses the key for several rules."""
    return f"{constraint.key}@{type_name}" if constraint.key == "inv-1" else constraint.key


@lru_cache(maxsize=1)
def in_chinese() -> dict[str, str]:
    """What the invariants of R4 demand, in Chinese, by `keyed`."""
    rows = (FOLDER / "invariants.zh.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return dict(row.split("\t", 1) for row in rows)


CORRECTED = {
    "que-12": "enableWhen.count() > 1 implies enableBehavior.exists()",
    # FHIR's boolean, which is meant, is not FHIRPath's Boolean.
    "que-7": "operator = 'exists' implies (answer is boolean)",
    # Without a probability the expression of R4 gives nothing, not true.
    "ras-2": "probability.empty() or (probability is decimal implies (probability as decimal) <= 100)",
}
"""Expressions of R4 that do not say what their text does."""


BEST_PRACTICE = frozenset({"dom-6"})
"""Constraints that the definitions mark as good practice only."""


@dataclass(slots=True)
class Test:
    """An invariant of R4 itself."""

    key: str
    error: bool
    human: str
    chinese: str
    expression: Expression


@dataclass(slots=True)
class Step:
    """One JSON name of a type: what its values are, and what is said of each of them."""

    name: str
    code: str
    kind: Kind
    many: bool
    primitive: bool
    tests: list[Test]
    binding: Binding | None
    where: str
    """The element as contexts of extensions name it ('Patient.contact')."""


@dataclass(slots=True)
class Plan:
    """A type: its invariants and its steps."""

    tests: list[Test]
    steps: dict[str, Step]


class BaseRules:
    """The walk, over plans that are made when a type is first met."""

    def __init__(self, room: ProfileRoom) -> None:
        self._room = room
        self._plans: dict[str, Plan] = {}
        self._extensions = Extensions(room)
        self._special: dict[str, Callable[[Spot, Context], None]] = {
            "Bundle": check_bundle,
            "MeasureReport": check_measure_report,
            "QuestionnaireResponse": ResponseCheck(room).check,
            "SearchParameter": check_search_parameter,
            "StructureDefinition": check_structure,
        }

    def resource(self, spot: Spot, context: Context, *, declared: bool) -> None:
        """A resource, all in it, and the profiles that it declares."""
        if spot.code not in self._room.known.types or spot.value.__class__ is not dict:
            return
        self._object(spot, context, (spot.code,), declared=declared)
        if self._room.refuses:
            check_refusals(spot, context)
        special = self._special.get(spot.code)
        if special is not None:
            special(spot, context)
        meta = spot.value.get("meta")
        named = meta.get("profile") if declared and isinstance(meta, dict) else None
        seen: set[str] = set()
        for index, canonical in enumerate(named if isinstance(named, list) else ()):
            if isinstance(canonical, str) and canonical and self._first(canonical, seen):
                where = ((spot.path, "meta", -1), "profile", index)
                self._room.check_named(canonical, spot, context, where)
        for canonical in self._room.by_type.get(spot.code, ()):
            if self._first(canonical, seen):
                self._room.check(canonical, spot, context)

    def _first(self, canonical: str, seen: set[str]) -> bool:
        """Whether a profile was not met yet, under whichever of its names."""
        profile = self._room.profile(canonical)
        name = profile.canonical if profile is not None else canonical
        new = name not in seen
        seen.add(name)
        return new

    def _object(self, spot: Spot, context: Context, where: tuple[str, ...], *, declared: bool) -> None:
        value: dict[str, Any] = spot.value
        plan = self._plan(spot.item.kind.name)
        contained = spot.item.kind.resource and spot.item.value is not context.root.value
        for test in plan.tests:
            if not (contained and test.key == "dom-6"):  # what is contained is told by the narrative around it
                self._test(test, spot, context)
        kind = spot.item.kind.name
        if kind == "Coding":
            self._coding(value, spot.path, context)
        elif kind == "Narrative":
            _links(value.get("div"), spot.path, context)
        if "id" in value and not spot.item.kind.resource and kind != "ElementDefinition":  # snapshot and differential share these
            _unique(value["id"], spot.path, context)
        steps = plan.steps
        for json, inner in value.items():
            step = steps.get(json)
            if step is None:
                if json[:1] == "_":
                    self._beside(json, inner, value, steps, spot, context)
                continue
            if step.primitive:
                if step.tests:
                    self._primitives(step, json, inner, value, spot, context)
                continue
            if step.many:
                if inner.__class__ is list:
                    for index, one in enumerate(inner):
                        if one.__class__ is dict:
                            self._child(step, one, (spot.path, step.name, index), spot, context, where, declared=declared)
            elif inner.__class__ is dict:
                self._child(step, inner, (spot.path, step.name, -1), spot, context, where, declared=declared)

    def _child(
        self, step: Step, value: dict[str, Any], path: Path, spot: Spot, context: Context, where: tuple[str, ...], *, declared: bool
    ) -> None:
        if step.kind.resource:
            inner = of_resource(value, path, spot.item)
            self.resource(inner, context.inside(inner.item, contained=step.name == "contained"), declared=declared)
            return
        one = Spot(Item(value, step.kind, None, spot.item), path, step.code)
        for test in step.tests:
            self._test(test, one, context)
        if step.code == "Extension":
            self._extensions.check(one, spot, where, context, modifier=step.name == "modifierExtension")
        if step.binding is not None:
            self._bound(step.binding, one, context)
        self._object(one, context, (step.where, step.kind.name), declared=declared)

    def _beside(self, json: str, inner: Any, value: dict[str, Any], steps: dict[str, Step], spot: Spot, context: Context) -> None:
        """What stands beside a primitive: its extensions."""
        step = steps.get(json[1:])
        if step is None:
            return
        rows = inner if inner.__class__ is list else [inner]
        values = value.get(json[1:])
        for index, row in enumerate(rows):
            if row.__class__ is not dict:
                continue
            path = (spot.path, step.name, index if inner.__class__ is list else -1)
            if "id" in row:
                _unique(row["id"], path, context)
            if "extension" not in row:
                continue
            held = values[index] if values.__class__ is list and index < len(values) else values
            holder = Spot(Item(held, step.kind, row, spot.item), path, step.code)
            for at, extension in enumerate(row["extension"] if isinstance(row["extension"], list) else ()):
                if extension.__class__ is dict:
                    place = (path, "extension", at)
                    one = Spot(Item(extension, kind_of("Extension"), None, holder.item), place, "Extension")
                    self._extensions.check(one, holder, (step.where, step.code), context, modifier=False)
                    self._object(one, context, ("Extension",), declared=False)

    def _primitives(self, step: Step, json: str, inner: Any, value: dict[str, Any], spot: Spot, context: Context) -> None:
        besides = value.get("_" + json)
        for index, one in enumerate(inner if inner.__class__ is list else [inner]):
            extra = besides[index] if besides.__class__ is list and index < len(besides) else besides
            path = (spot.path, step.name, index if step.many else -1)
            item = Item(one, step.kind, extra if extra.__class__ is dict else None, spot.item)
            for test in step.tests:
                self._test(test, Spot(item, path, step.code), context)

    # --- single rules
    def _test(self, test: Test, spot: Spot, context: Context) -> None:
        try:
            holds = context.test(test.expression, spot)
        except FhirPathError as fault:
            english = f"the rule {test.key} ({test.human}) cannot be decided: {fault}"
            context.report.add("processing", spot.path, english, f"规则 {test.key} 无法判定：{fault.zh}", severity="warning", rule=test.key)
            return
        if holds is not True:
            severity = "error" if test.error else "information" if test.key in BEST_PRACTICE else "warning"
            context.report.add(
                "invariant", spot.path, f"{test.human} ({test.key})", f"{test.chinese}（{test.key}）", severity=severity, rule=test.key
            )

    def _coding(self, value: dict[str, Any], path: Path, context: Context) -> None:
        """A code of a system that is known here as a whole is one of it, and its display one of the code's texts."""
        system, code = value.get("system"), value.get("code")
        if not isinstance(system, str) or not isinstance(code, str):
            return
        if self._no_system(system, path, context):
            return
        version = value.get("version")
        version = version if isinstance(version, str) else ""
        terms = self._room.terms
        if terms.known(system, version, code) is False:
            english = f"{shown(code)} is not a code of the system {system}"
            # The tables of v2 and v3 grow without FHIR; what is here is their state at the time of R4.
            severity = "warning" if system.startswith(GROWING) else "error"
            chinese = f"{shown(code)} 不是编码系统 {system} 的编码"
            context.report.add("code-invalid", (path, "code", -1), english, chinese, severity=severity, rule="code")
            return
        display = value.get("display")
        if isinstance(display, str) and (texts := terms.displays(system, version, code)) and not same_display(display, texts):
            if system == ISO_3166 and not terms.of_another(system, version, code, display):
                return  # a country has many names
            english = f"the display {shown(display)} is none of the texts that {system} has for '{code}'"
            chinese = f"显示名 {shown(display)} 与 {system} 中“{code}”的名称不符"
            # A text in other letters is a translation.
            severity = "error" if _latin(display) and all(map(_latin, texts)) else "warning"
            context.report.add("invalid", (path, "display", -1), english, chinese, severity=severity, rule="display")

    def _no_system(self, system: str, path: Path, context: Context) -> bool:
        """Tell where a system is no name of a code system: relative, or that of a value set."""
        if not ABSOLUTE.match(system):
            english = f"the system {shown(system)} must be absolute"
            context.report.add("value", (path, "system", -1), english, f"system {shown(system)} 必须是绝对地址", rule="coding-system")
            return True
        found = self._room.find(system) if "ValueSet" in system else None
        if found is not None and found.get("resourceType") == "ValueSet":
            english = f"{shown(system)} is a value set, not a code system"
            context.report.add("value", (path, "system", -1), english, f"{shown(system)} 是值集，不是代码系统", rule="coding-system")
            return True
        return False

    def _bound(self, binding: Binding, spot: Spot, context: Context) -> None:
        if self._room.terms.has_any(binding.value_set, spot.item) is False and (spot.value.get("coding") or spot.code == "Coding"):
            english = f"no code of it is in the {binding.strength} value set {binding.value_set}"
            chinese = f"没有编码属于可扩展值集 {binding.value_set}"
            context.report.add("code-invalid", spot.path, english, chinese, severity="warning", rule="binding")

    # --- plans
    def _plan(self, name: str) -> Plan:
        made = self._plans.get(name)
        if made is None:
            made = self._plans[name] = self._make(name)
        return made

    def _make(self, name: str) -> Plan:
        types = self._room.known.types
        if name not in types:
            return Plan([], {})
        definition = types[name]
        steps: dict[str, Step] = {}
        for element in definition.elements.values():
            for json, code in element.json_names.items():
                kind = kind_of(definition.by_json[json][1])
                binding = element.binding if element.binding and element.binding.strength == "extensible" else None
                primitive = kind.primitive
                constraints = self._constraints_of(element.constraints, element.content)
                where = element.content or element.path
                steps[json] = Step(
                    element.name,
                    code,
                    kind,
                    element.max != 1,
                    primitive,
                    _tests(constraints, definition.by_json[json][1]),
                    None if primitive else binding,
                    where,
                )
        return Plan(_tests(definition.constraints, name), steps)

    def _constraints_of(self, own: tuple[Constraint, ...], content: str | None) -> tuple[Constraint, ...]:
        """The constraints of an element: of one that is like another, those of that one."""
        if content is None or "." not in content:
            return own
        holder, _, name = content.rpartition(".")
        types = self._room.known.types
        like = types[holder].elements.get(name) if holder in types else None
        return (*own, *(like.constraints if like else ()))


def _tests(constraints: tuple[Constraint, ...], type_name: str) -> list[Test]:
    made: list[Test] = []
    for one in constraints:
        name = keyed(one, type_name)
        if name in IN_STRUCTURE or not one.expression:
            continue
        expression = compile_expression(CORRECTED.get(one.key, one.expression))
        made.append(Test(one.key, one.severity == "error", one.human, in_chinese().get(name, one.human), expression))
    return made


def _unique(id: Any, path: Path, context: Context) -> None:
    """The id of an element stands once in its resource."""
    if not isinstance(id, str):
        return
    if id in context.ids:
        english = f"the element id {shown(id)} stands twice in the resource"
        context.report.add("duplicate", path, english, f"元素 id {shown(id)} 在资源中重复", rule="element-id")
    context.ids.add(id)


_LINK = re.compile(r"""\shref=["']#([^"']+)["']""")
_MARK = re.compile(r"""\s(?:id|name)=["']([^"']+)["']""")


def _links(div: Any, path: Path, context: Context) -> None:
    """A link inside of a narrative leads to a place of it, or to a contained resource."""
    if not isinstance(div, str) or "#" not in div:
        return
    marks = set(_MARK.findall(div))
    for name in dict.fromkeys(_LINK.findall(div)):
        if name not in marks and name not in {one.get("id") for one in listed(context.root.value, "contained")}:
            english = f"the link {shown('#' + name)} leads nowhere in the narrative"
            context.report.add("not-found", (path, "div", -1), english, f"叙述中的链接 {shown('#' + name)} 没有目标", rule="narrative-link")


def _latin(text: str) -> bool:
    return all(ord(letter) < 0x250 for letter in text)
