"""iif, trace, the clock, and variables defined on the way.

Specification: http://hl7.org/fhirpath/N1/#utility-functions; defineVariable: http://hl7.org/fhirpath/#definevariable
"""

from __future__ import annotations

from fhir_server.fhirpath import quantity
from fhir_server.fhirpath.code import EMPTY, Code, of_truth, of_value
from fhir_server.fhirpath.errors import FhirPathError, FhirPathSemanticError
from fhir_server.fhirpath.evaluation import Env, described, described_zh, single_value, string
from fhir_server.fhirpath.functions.declare import Function, Site
from fhir_server.fhirpath.items import Collection, Item
from fhir_server.fhirpath.parser import Literal
from fhir_server.fhirpath.quantity import Quantity
from fhir_server.fhirpath.temporal import Temporal, parse_temporal


def _iif(site: Site) -> Code:
    """Only the branch that is chosen is evaluated; the criterion must be a boolean or empty."""
    source, joined = site.input, site.joined
    criterion, then = site.each(0).many, site.each(1).many
    otherwise = site.each(2).many if site.given > 2 else None

    def evaluate(focus: Collection, env: Env) -> Collection:
        here = source(focus, env)
        if joined and len(here) > 1:
            raise FhirPathError(
                f"iif() needs a single item as its input, not {len(here)}", f"iif() 的输入须为单个项，而不是 {len(here)} 个"
            )
        found = criterion(here, env)
        if len(found) > 1:
            raise FhirPathError(
                f"iif() needs a single boolean as its criterion, not {len(found)} items",
                f"iif() 的条件须为单个布尔值，而不是 {len(found)} 个项",
            )
        value = found[0] if found else None
        if value.__class__ is Item:
            value = value.value
        if value is True:
            return then(here, env)
        if value is not False and value is not None:
            raise FhirPathError(
                f"iif() needs a boolean as its criterion, not {described(found[0])}",
                f"iif() 的条件须为布尔值，而不是{described_zh(found[0])}",
            )
        return otherwise(here, env) if otherwise else EMPTY

    return Code(evaluate)


def _trace(site: Site) -> Code:
    source, label, name = site.input, site.argument(0), site.name
    projection = site.each(1).many if site.given > 1 else None
    walk = site.walk(1) if site.given > 1 else None

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = source(focus, env)
        text = string(label(focus, env), name)
        if env.traces is not None:
            shown = items
            if projection and walk:
                shown = [found for here in walk(items, env) for found in projection(here, env)]
            env.traces.append((text or "", shown))
        return items

    return Code(evaluate)


def _define(site: Site) -> Code:
    source = site.input
    label = site.node.arguments[0]
    if not isinstance(label, Literal) or label.kind != "string" or not label.text:
        what = "defineVariable() needs its name as a string literal"
        raise FhirPathSemanticError(what, label.position, "defineVariable() 的名称须为字符串字面量")
    value = site.each(1).many if site.given > 1 else None
    slot = site.compiler.new_slot(label.text, site.node.position)
    name = label.text

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = source(focus, env)
        if name in env.variables:
            raise FhirPathError(f"the variable %{name} is defined already", f"变量 %{name} 已定义")
        env.slots[slot] = value(items, env) if value else items
        return items

    return Code(evaluate)


def _now(site: Site) -> Code:
    def value(focus: Collection, env: Env) -> Temporal | None:
        return parse_temporal(env.instant().isoformat(timespec="milliseconds").replace("+00:00", "Z"), "DateTime")

    return of_value(value)


def _today(site: Site) -> Code:
    return of_value(lambda focus, env: parse_temporal(env.instant().date().isoformat(), "Date"))


def _time_of_day(site: Site) -> Code:
    return of_value(lambda focus, env: parse_temporal(env.instant().time().isoformat(timespec="milliseconds"), "Time"))


def _comparable(site: Site) -> Code:
    source, other, name = site.input, site.argument(0), site.name

    def truth(focus: Collection, env: Env) -> bool | None:
        a, b = single_value(source(focus, env), name), single_value(other(focus, env), name)
        if a is None or b is None:
            return None
        return isinstance(a, Quantity) and isinstance(b, Quantity) and quantity.comparable(a, b)

    return of_truth(truth)


FUNCTIONS = {
    "iif": Function(_iif, 2, 3),
    "trace": Function(_trace, 1, 2),
    "defineVariable": Function(_define, 1, 2),
    "now": Function(_now),
    "today": Function(_today),
    "timeOfDay": Function(_time_of_day),
    "comparable": Function(_comparable, 1, 1),
}
