"""Which items of a questionnaire are enabled by the answers given so far.

Specification: https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_server.validation.questionnaires.answers import value_of
from fhir_server.validation.values import compare, listed, matches, same

ORDERS = {">": (1,), "<": (-1,), ">=": (0, 1), "<=": (-1, 0)}


def answers_of(holder: Mapping[str, Any], link: str) -> Iterator[tuple[str, Any]]:
    """(type, value) of each answer to the question `link` below a response or one of its items."""
    for item in listed(holder, "item"):
        for answer in listed(item, "answer"):
            if item.get("linkId") == link and (found := value_of(answer)) is not None:
                yield found
            yield from answers_of(answer, link)
        yield from answers_of(item, link)


def enabled(item: Mapping[str, Any], scopes: list[Mapping[str, Any]]) -> bool:
    """Whether an item is asked. `scopes`: the response and the items down to where the item would stand, outermost first."""
    conditions = listed(item, "enableWhen")
    if not conditions:
        return True
    met = (_met(condition, scopes) for condition in conditions)
    return any(met) if item.get("enableBehavior") == "any" else all(met)


def _met(condition: Mapping[str, Any], scopes: list[Mapping[str, Any]]) -> bool:
    """The nearest scope that has answers to the question decides: in a repeating group that is the same repetition."""
    link, operator = str(condition.get("question")), str(condition.get("operator"))
    given: list[tuple[str, Any]] = []
    for scope in reversed(scopes):
        given = list(answers_of(scope, link))
        if given:
            break
    wanted = next(((key[6:], value) for key, value in condition.items() if key.startswith("answer")), None)
    if wanted is None:
        return False
    if operator == "exists":
        return bool(given) == (wanted[1] is True)
    tests = [_compared(operator, value, wanted[1], wanted[0]) for _, value in given]
    return all(tests) and bool(tests) if operator == "!=" else any(tests)


def _compared(operator: str, value: Any, wanted: Any, type: str) -> bool:
    if operator in ("=", "!="):
        equal = _equal(value, wanted)
        return equal if operator == "=" else not equal
    name = type if type == "Quantity" else type[:1].lower() + type[1:]
    return compare(value, wanted, name) in ORDERS.get(operator, ())


def _equal(value: Any, wanted: Any) -> bool:
    """Codings are equal by system and code, whatever text is with them; quantities by their amount."""
    if isinstance(value, dict) and isinstance(wanted, dict):
        if "code" in wanted and "value" not in wanted:
            parts = {key: wanted[key] for key in ("system", "code") if key in wanted}
            return matches(value, parts)
        if "value" in wanted:
            return compare(value, wanted, "Quantity") == 0
        return matches(value, wanted)
    return same(value, wanted)
