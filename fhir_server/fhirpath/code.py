"""A compiled node: a closure that gives a collection, and where the result is a condition, one that gives it without a list.

Specification: http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.evaluation import Env, Many, Truth, boolean
from fhir_server.fhirpath.items import Collection

# Shared by all evaluations: no closure ever changes a collection that it did not make.
EMPTY: Collection = []
TRUE: Collection = [True]
FALSE: Collection = [False]


class Code:
    """`many` gives the collection; `truth`, if any, the same as True, False or None; `value` is the collection of a constant."""

    __slots__ = ("many", "truth", "value")

    def __init__(self, many: Many, truth: Truth | None = None, value: Collection | None = None) -> None:
        self.many, self.truth, self.value = many, truth, value

    def condition(self, what: str) -> Truth:
        """The closure that gives the node's result as a condition of `what`."""
        if self.truth is not None:
            return self.truth
        many = self.many

        def truth(focus: Collection, env: Env) -> bool | None:
            items = many(focus, env)
            return boolean(items, what) if items else None

        return truth


def constant(value: Collection) -> Code:
    """A code that always gives the same collection."""
    return Code(lambda focus, env: value, None, value)


def of_truth(truth: Truth) -> Code:
    """A code of a condition."""

    def many(focus: Collection, env: Env) -> Collection:
        found = truth(focus, env)
        return TRUE if found else EMPTY if found is None else FALSE

    return Code(many, truth)


def of_value(value: Any) -> Code:
    """A code of a closure that gives one System value or None."""

    def many(focus: Collection, env: Env) -> Collection:
        found = value(focus, env)
        return EMPTY if found is None else [found]

    return Code(many)
