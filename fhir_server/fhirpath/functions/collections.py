"""Filtering, projection, subsetting, combining and sorting.

Specification: http://hl7.org/fhirpath/N1/#filtering-and-projection, #subsetting, #combining; sort: http://hl7.org/fhirpath/#sort
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from typing import Any

from fhir_server.fhirpath.code import EMPTY, Code, of_truth
from fhir_server.fhirpath.equality import Seen, compare_values, distinct
from fhir_server.fhirpath.evaluation import Env, integer, several, single_value
from fhir_server.fhirpath.functions.declare import Function, Site, against, on_collection
from fhir_server.fhirpath.items import Collection
from fhir_server.fhirpath.parser import Node, Ordered, Sign
from fhir_server.fhirpath.typenames import type_test


def _where(site: Site) -> Code:
    source, condition, walk = site.input, site.each(0).condition("where()"), site.walk(0)
    return Code(lambda focus, env: [here[0] for here in walk(source(focus, env), env) if condition(here, env)])


def _select(site: Site) -> Code:
    source, projection, walk = site.input, site.each(0).many, site.walk(0)

    def evaluate(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        for here in walk(source(focus, env), env):
            found += projection(here, env)
        env.spend(len(found))
        return found

    return Code(evaluate)


def _repeat(site: Site) -> Code:
    """Cycle-safe: an item that is there already is not walked again."""
    source, projection, walk = site.input, site.each(0).many, site.walk(0)

    def evaluate(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        seen = Seen()
        level = source(focus, env)
        while level:
            level = [new for here in walk(level, env) for new in projection(here, env) if seen.add(new)]
            env.spend(sum(len(new) for new in level if new.__class__ is str) // 16)  # texts may grow with each step
            found += level
        return found

    return Code(evaluate)


def _repeat_all(site: Site) -> Code:
    """As repeat(), equal items included; only the budget of the evaluation ends a cycle."""
    source, projection, walk = site.input, site.each(0).many, site.walk(0)

    def evaluate(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        level = source(focus, env)
        while level:
            level = [new for here in walk(level, env) for new in projection(here, env)]
            env.spend(sum(len(new) for new in level if new.__class__ is str) // 16)
            found += level
        return found

    return Code(evaluate)


def _of_type(site: Site) -> Code:
    source, test = site.input, type_test(site.type_name(), site.node.arguments[0].position, exact=True)
    return Code(lambda focus, env: [item for item in source(focus, env) if test(item)])


def _as(site: Site) -> Code:
    from fhir_server.fhirpath.compiler import cast

    strict = site.compiler.strict
    test = type_test(site.type_name(), site.node.arguments[0].position, exact=True, lenient=not strict)
    return Code(cast(site.input, test, strict=strict))


def _is(site: Site) -> Code:
    source, test = site.input, type_test(site.type_name(), site.node.arguments[0].position)

    def truth(focus: Collection, env: Env) -> bool | None:
        items = source(focus, env)
        if len(items) > 1:
            raise several("is()", len(items))
        return test(items[0]) if items else None

    return of_truth(truth)


def _single(items: Collection) -> Collection:
    if len(items) > 1:
        raise several("single()", len(items))
    return items


def _slice(cut: Callable[[Collection, int], Collection]) -> Function:
    def build(site: Site) -> Code:
        source, count, name = site.input, site.argument(0), site.name

        def evaluate(focus: Collection, env: Env) -> Collection:
            number = integer(count(focus, env), name)
            return EMPTY if number is None else cut(source(focus, env), max(number, 0))

        return Code(evaluate)

    return Function(build, 1, 1)


def _exclude(mine: Collection, theirs: Collection) -> Collection:
    among = Seen(theirs)
    return [item for item in mine if item not in among]


def _intersect(mine: Collection, theirs: Collection) -> Collection:
    among = Seen(theirs)
    return distinct([item for item in mine if item in among])


def _direction(argument: Node) -> tuple[Node, bool]:
    """A key of sort() without its direction, and whether that is descending."""
    if isinstance(argument, Ordered):
        return argument.key, argument.descending
    if isinstance(argument, Sign) and argument.sign == "-":
        return argument.operand, True
    return argument, False


def _sort(site: Site) -> Code:
    """By the keys in turn; a key is descending after `desc` or a leading minus. An item without a key comes first, descending last."""
    source = site.input
    keys: list[tuple[Any, bool]] = []
    for argument in site.node.arguments:
        key, descending = _direction(argument)
        keys.append((site.compiler.apart(key).many, descending))
    if not keys:
        keys = [(lambda focus, env: focus, False)]

    def order(a: tuple[list[Any], Any], b: tuple[list[Any], Any]) -> int:
        for x, y, (_, descending) in zip(a[0], b[0], keys, strict=True):
            found = -1 if x is None else 1 if y is None else compare_values(x, y, "sort()")
            if found and x is not y:
                return -found if descending else found
        return 0

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = source(focus, env)
        env.spend(len(items))
        rows = [([single_value(key([item], env), "a key of sort()") for key, _ in keys], item) for item in items]
        return [item for _, item in sorted(rows, key=cmp_to_key(order))]

    return Code(evaluate)


def _coalesce(site: Site) -> Code:
    choices = [site.argument(place) for place in range(site.given)]

    def evaluate(focus: Collection, env: Env) -> Collection:
        for choice in choices:
            if found := choice(focus, env):
                return found
        return EMPTY

    return Code(evaluate)


FUNCTIONS = {
    "where": Function(_where, 1, 1),
    "select": Function(_select, 1, 1),
    "repeat": Function(_repeat, 1, 1),
    "repeatAll": Function(_repeat_all, 1, 1),
    "ofType": Function(_of_type, 1, 1),
    "as": Function(_as, 1, 1),
    "is": Function(_is, 1, 1),
    "single": on_collection(_single),
    "first": on_collection(lambda items: items[:1]),
    "last": on_collection(lambda items: items[-1:]),
    "tail": on_collection(lambda items: items[1:]),
    "skip": _slice(lambda items, count: items[count:]),
    "take": _slice(lambda items, count: items[:count]),
    "intersect": against(_intersect),
    "exclude": against(_exclude),
    "union": against(lambda mine, theirs: distinct(mine + theirs)),
    "combine": against(lambda mine, theirs: mine + theirs),
    "sort": Function(_sort, 0, 20),
    "coalesce": Function(_coalesce, 1, 100),
}
