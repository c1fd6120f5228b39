"""FHIRPath: expressions are parsed and compiled once, then evaluated as closures.

Specification: http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fhir_server.fhirpath.compiler import build_start
from fhir_server.fhirpath.errors import FhirPathError, FhirPathSyntaxError
from fhir_server.fhirpath.evaluation import Collection, Env, boolean
from fhir_server.fhirpath.functions.utility import clock
from fhir_server.fhirpath.items import Item, of_resource
from fhir_server.fhirpath.parser import Node, parse

__all__ = ["Expression", "FhirPathError", "FhirPathSyntaxError", "Item", "compile", "compile_expression", "focus"]


class Expression:
    """A compiled expression; evaluating it does not change it."""

    def __init__(self, text: str, node: Node | None = None) -> None:
        """Of a text, or of a part of its tree."""
        self.text = text
        self._evaluate = build_start(node or parse(text))

    def evaluate(
        self,
        resource: dict[str, Any] | Item | None,
        *,
        context: Item | Collection | None = None,
        root: Item | None = None,
        variables: Mapping[str, Any] | None = None,
        resolve: Callable[[str], dict[str, Any] | None] | None = None,
        terminology: Callable[[str, Item, Any], Any] | None = None,
        conforms: Callable[[Any, str], bool] | None = None,
        now: dt.datetime | None = None,
        traces: list[tuple[str, Collection]] | None = None,
    ) -> Collection:
        """The items that the expression gives on `context` (default: the resource itself).

        `resource` is %resource, `root` %rootResource (default the same). Raises FhirPathError.
        """
        item = of_resource(resource) if isinstance(resource, dict) else resource
        focus: Collection
        if context is None:
            focus = [item] if item else []
        else:
            focus = context if isinstance(context, list) else [context]
        env = Env(item, root or item, focus, variables or {}, now or clock(), resolve, terminology, conforms, this=focus)
        if traces is not None:
            env.traces = traces
        try:
            return self._evaluate(env, focus)
        except RecursionError:
            raise FhirPathError("the expression nests too deeply on this input") from None

    def test(self, resource: dict[str, Any] | Item, **options: Any) -> bool | None:
        """The result as a condition: None when empty."""
        return boolean(self.evaluate(resource, **options), "a condition")


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Parse and compile, once per text; raises FhirPathSyntaxError."""
    return Expression(text)


compile = compile_expression


def focus(value: Any, type: str, extra: dict[str, Any] | None = None) -> Item:
    """One element as the context of an expression: its raw value, type, and the object beside a primitive."""
    return Item(value, type, extra)
