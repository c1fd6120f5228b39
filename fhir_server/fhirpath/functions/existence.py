"""Existence: whether items are there, and what holds of all of them.

Specification: http://hl7.org/fhirpath/N1/#existence
"""

from __future__ import annotations

from fhir_server.fhirpath.code import Code, of_truth, of_value
from fhir_server.fhirpath.equality import Seen, distinct
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Env, described, described_zh
from fhir_server.fhirpath.functions.declare import Function, Site, on_collection, on_condition
from fhir_server.fhirpath.items import Collection, system_value


def _empty(site: Site) -> Code:
    source = site.input
    return of_truth(lambda focus, env: not source(focus, env))


def _exists(site: Site) -> Code:
    source = site.input
    if not site.given:
        return of_truth(lambda focus, env: bool(source(focus, env)))
    condition, walk = site.each(0).condition("exists()"), site.walk(0)

    def truth(focus: Collection, env: Env) -> bool:
        found, before = False, env.index
        for here in walk(source(focus, env), env):
            if condition(here, env):
                found = True
                break
        env.index = before
        return found

    return of_truth(truth)


def _all(site: Site) -> Code:
    source, condition, walk = site.input, site.each(0).condition("all()"), site.walk(0)

    def truth(focus: Collection, env: Env) -> bool:
        found, before = True, env.index
        for here in walk(source(focus, env), env):
            if not condition(here, env):
                found = False
                break
        env.index = before
        return found

    return of_truth(truth)


def _booleans(items: Collection, name: str) -> list[bool]:
    values = [system_value(item) for item in items]
    for value in values:
        if not isinstance(value, bool):
            raise FhirPathError(f"{name}() needs booleans, not {described(value)}", f"{name}() 需要布尔值，而不是{described_zh(value)}")
    return values


def _count(site: Site) -> Code:
    source = site.input
    return of_value(lambda focus, env: len(source(focus, env)))


def _subset(site: Site) -> Code:
    source, other = site.input, site.argument(0)

    def truth(focus: Collection, env: Env) -> bool:
        among = Seen(other(focus, env))
        return all(item in among for item in source(focus, env))

    return of_truth(truth)


def _superset(site: Site) -> Code:
    source, other = site.input, site.argument(0)

    def truth(focus: Collection, env: Env) -> bool:
        among = Seen(source(focus, env))
        return all(item in among for item in other(focus, env))

    return of_truth(truth)


def _not(site: Site) -> Code:
    condition = Code(site.input).condition("not()")

    def truth(focus: Collection, env: Env) -> bool | None:
        found = condition(focus, env)
        return None if found is None else not found

    return of_truth(truth)


FUNCTIONS = {
    "empty": Function(_empty),
    "exists": Function(_exists, 0, 1),
    "all": Function(_all, 1, 1),
    "allTrue": on_condition(lambda items: all(_booleans(items, "allTrue"))),
    "anyTrue": on_condition(lambda items: any(_booleans(items, "anyTrue"))),
    "allFalse": on_condition(lambda items: not any(_booleans(items, "allFalse"))),
    "anyFalse": on_condition(lambda items: not all(_booleans(items, "anyFalse"))),
    "subsetOf": Function(_subset, 1, 1),
    "supersetOf": Function(_superset, 1, 1),
    "count": Function(_count),
    "distinct": on_collection(distinct),
    "isDistinct": on_condition(lambda items: len(distinct(items)) == len(items)),
    "not": Function(_not),
}
