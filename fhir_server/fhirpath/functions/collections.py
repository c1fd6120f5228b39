"""Existence, filtering, subsetting and combining.

Specification: http://hl7.org/fhirpath/N1/#existence to #combining
"""

from __future__ import annotations

from functools import cmp_to_key
from typing import Any

from fhir_server.fhirpath import equality
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.evaluation import Collection, Env, Evaluator, boolean, integer, single
from fhir_server.fhirpath.functions.declare import Function, Iteration, answer, env_focus, on_collection
from fhir_server.fhirpath.items import of_system, system_value
from fhir_server.fhirpath.typing import is_of

_LIMIT = 100_000


def where(criterion: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        with Iteration(env) as each:
            return [item for k, item in enumerate(focus) if boolean(criterion(env, each.at(item, k)), "where()") is True]

    return evaluate


def exists(criterion: Evaluator | None = None) -> Evaluator:
    if criterion is None:
        return lambda env, focus: [of_system(bool(focus))]
    kept = where(criterion)
    return lambda env, focus: [of_system(bool(kept(env, focus)))]


def _all(criterion: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        with Iteration(env) as each:
            return [of_system(all(boolean(criterion(env, each.at(item, k)), "all()") is True for k, item in enumerate(focus)))]

    return evaluate


def select(projection: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        with Iteration(env) as each:
            return [found for k, item in enumerate(focus) for found in projection(env, each.at(item, k))]

    return evaluate


def repeat(projection: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        found: Collection = []
        queue = list(focus)
        with Iteration(env) as each:
            while queue:
                step = [new for k, item in enumerate(queue) for new in projection(env, each.at(item, k))]
                fresh = [item for item in equality.distinct(step) if not equality.contains(found, item)]
                found += fresh
                queue = fresh
                if len(found) > _LIMIT:
                    raise FhirPathError(f"repeat() gives more than {_LIMIT} items")
        return found

    return evaluate


def _booleans(focus: Collection, name: str) -> list[bool]:
    values = [system_value(item) for item in focus]
    if not all(isinstance(value, bool) for value in values):
        raise FhirPathError(f"{name}() needs booleans")
    return values


def _single(env: Env, focus: Collection) -> Collection:
    item = single(focus, "single()")
    return [item] if item else []


def _skip(count: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        number = integer(count(env, env_focus(env, focus)), "skip()")
        return focus[max(number or 0, 0) :] if number is not None else []

    return evaluate


def _take(count: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        number = integer(count(env, env_focus(env, focus)), "take()")
        return focus[: max(number, 0)] if number is not None else []

    return evaluate


def _against(work: Any) -> Any:
    def make(other: Evaluator) -> Evaluator:
        return lambda env, focus: work(focus, other(env, env_focus(env, focus)))

    return make


def _exclude(focus: Collection, other: Collection) -> Collection:
    return [item for item in focus if not equality.contains(other, item)]


def _intersect(focus: Collection, other: Collection) -> Collection:
    return equality.distinct([item for item in focus if equality.contains(other, item)])


def _subset(focus: Collection, other: Collection) -> Collection:
    return [of_system(all(equality.contains(other, item) for item in focus))]


def _of_type(name: str) -> Evaluator:
    return lambda env, focus: [item for item in focus if is_of(item, name, exact=True)]


def _as(name: str) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        # R4 search parameters apply as() to lists; the official definitions count more than the one-item rule.
        return [item for item in focus if is_of(item, name, exact=True)]

    return evaluate


def _is(name: str) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        item = single(focus, "is()")
        return [of_system(is_of(item, name))] if item else []

    return evaluate


def _sort(*keys: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        rows = []
        with Iteration(env) as each:
            for k, item in enumerate(focus):
                here = each.at(item, k)
                rows.append(([system_value(found[0]) if (found := key(env, here)) else None for key in keys or (lambda e, f: f,)], item))

        def order(a: Any, b: Any) -> int:
            for x, y in zip(a[0], b[0], strict=True):
                if x is None or y is None:
                    if x is not y:
                        return -1 if x is None else 1
                    continue
                found = equality.compare_values(x, y, "sort()")
                if found:
                    return found
            return 0

        return [item for _, item in sorted(rows, key=cmp_to_key(order))]

    return evaluate


def _coalesce(*choices: Evaluator) -> Evaluator:
    def evaluate(env: Env, focus: Collection) -> Collection:
        for choice in choices:
            if found := choice(env, env_focus(env, focus)):
                return found
        return []

    return evaluate


FUNCTIONS = {
    "empty": on_collection(lambda focus: [of_system(not focus)]),
    "exists": Function(exists, 0, 1),
    "all": Function(_all, 1, 1),
    "allTrue": on_collection(lambda focus: [of_system(all(_booleans(focus, "allTrue")))]),
    "anyTrue": on_collection(lambda focus: [of_system(any(_booleans(focus, "anyTrue")))]),
    "allFalse": on_collection(lambda focus: [of_system(not any(_booleans(focus, "allFalse")))]),
    "anyFalse": on_collection(lambda focus: [of_system(not all(_booleans(focus, "anyFalse")))]),
    "subsetOf": Function(_against(_subset), 1, 1),
    "supersetOf": Function(_against(lambda focus, other: _subset(other, focus)), 1, 1),
    "count": on_collection(lambda focus: [of_system(len(focus))]),
    "distinct": on_collection(equality.distinct),
    "isDistinct": on_collection(lambda focus: answer(len(equality.distinct(focus)) == len(focus))),
    "where": Function(where, 1, 1),
    "select": Function(select, 1, 1),
    "repeat": Function(repeat, 1, 1),
    "ofType": Function(_of_type, 1, 1, takes_type=True),
    "as": Function(_as, 1, 1, takes_type=True),
    "is": Function(_is, 1, 1, takes_type=True),
    "single": Function(lambda: _single),
    "first": on_collection(lambda focus: focus[:1]),
    "last": on_collection(lambda focus: focus[-1:]),
    "tail": on_collection(lambda focus: focus[1:]),
    "skip": Function(_skip, 1, 1),
    "take": Function(_take, 1, 1),
    "intersect": Function(_against(_intersect), 1, 1),
    "exclude": Function(_against(_exclude), 1, 1),
    "union": Function(_against(lambda focus, other: equality.distinct(focus + other)), 1, 1),
    "combine": Function(_against(lambda focus, other: focus + other), 1, 1),
    "not": on_collection(lambda focus: answer(None if (value := boolean(focus, "not()")) is None else not value)),
    "sort": Function(_sort, 0, 9),
    "coalesce": Function(_coalesce, 1, 20),
}
