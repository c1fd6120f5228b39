"""FHIRPath: expressions are parsed and compiled once, then evaluated as closures.

Specification: http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from fhir_server.fhirpath.analysis import check
from fhir_server.fhirpath.compiler import Compiler
from fhir_server.fhirpath.errors import FhirPathError, FhirPathSemanticError, FhirPathSyntaxError
from fhir_server.fhirpath.evaluation import Env, Resolver
from fhir_server.fhirpath.items import Collection, Item, of_object, unwrapped, wrapped
from fhir_server.fhirpath.kinds import kind_of
from fhir_server.fhirpath.parser import Node, parse

__all__ = [
    "Expression",
    "FhirPathError",
    "FhirPathSemanticError",
    "FhirPathSyntaxError",
    "Item",
    "compile",
    "compile_expression",
    "focus",
    "typed_paths",
]

Traces = list[tuple[str, list[Item]]]


class Expression:
    """A compiled expression; evaluating it does not change it, so that threads may share it. `is_condition`: it is true, false or empty."""

    __slots__ = ("_condition", "_many", "is_condition", "node", "text")

    def __init__(self, text: str, node: Node | None = None, *, strict: bool = False) -> None:
        """Of a text, or of a part of its tree. Raises FhirPathSyntaxError."""
        self.text = text
        self.node = node or parse(text)
        code = Compiler(strict=strict).code(self.node)
        self._many, self._condition = code.many, code.condition("a condition")
        self.is_condition = code.truth is not None

    def evaluate(
        self,
        resource: dict[str, Any] | Item | None,
        *,
        context: Item | list[Item] | None = None,
        root: dict[str, Any] | Item | None = None,
        variables: Mapping[str, Any] | None = None,
        resolve: Resolver | None = None,
        terminology: Callable[[str, Item, Any], Any] | None = None,
        conforms: Callable[[Any, str], bool | None] | None = None,
        now: dt.datetime | None = None,
        traces: Traces | None = None,
    ) -> list[Item]:
        """The items that the expression gives on `context` (default: the resource itself). Raises FhirPathError.

        `resource` is %resource, `root` %rootResource (default the same). `variables`: name -> JSON value, Item or list of them.
        `resolve(reference)` loads what is neither contained nor in the Bundle; `terminology(function, item, argument)` answers memberOf,
        subsumes and subsumedBy; `conforms(value, profile)` conformsTo (None: profile unknown). `now` must have a zone. What trace()
        shows is appended to `traces`.
        """
        seen: list[tuple[str, Collection]] | None = None if traces is None else []
        env, here = self._start(resource, context, root, variables, now, resolve, terminology, conforms, seen)
        try:
            found = self._many(here, env)
        except RecursionError:
            raise FhirPathError("the expression nests too deeply on this input", "表达式在此输入上嵌套过深") from None
        if traces is not None and seen is not None:
            traces += [(label, [wrapped(item) for item in items]) for label, items in seen]
        return [item if item.__class__ is Item else wrapped(item) for item in found]

    def check(self, root: str | None, *, context: Iterable[str] | None = (), check_order: bool = False) -> frozenset[str] | None:
        """The types that the expression can give on a resource of type `root`, None for any; see `analysis.check`.

        Raises FhirPathSemanticError for names that FHIR's definitions do not have there.
        """
        return check(self.node, root, context=context, check_order=check_order)

    def test(self, resource: dict[str, Any] | Item | None, *, context: Item | list[Item] | None = None, **ports: Any) -> bool | None:
        """The result as a condition, None when empty; the parameters are those of `evaluate`. Raises FhirPathError.

        `purse`: how many items it may touch.
        """
        root, variables, purse = ports.pop("root", None), ports.pop("variables", None), ports.pop("purse", None)
        env, here = self._start(resource, context, root, variables, ports.pop("now", None), **ports)
        if purse is not None:
            env.purse = purse
        try:
            return self._condition(here, env)
        except RecursionError:
            raise FhirPathError("the expression nests too deeply on this input", "表达式在此输入上嵌套过深") from None

    def _start(
        self, resource: Any, context: Any, root: Any, variables: Mapping[str, Any] | None, now: dt.datetime | None,
        resolve: Any = None, terminology: Any = None, conforms: Any = None, traces: Any = None,
    ) -> tuple[Env, Collection]:  # fmt: skip
        item = of_object(resource) if resource.__class__ is dict else resource
        if context is None:
            here: Collection = [] if item is None else [item]
        else:
            here = [unwrapped(one) for one in context] if isinstance(context, list) else [unwrapped(context)]
        top = item if root is None else of_object(root) if root.__class__ is dict else root
        return Env(item, top, here, variables or {}, now, resolve, terminology, conforms, traces), here


@lru_cache(maxsize=8192)
def compile_expression(text: str, *, strict: bool = False) -> Expression:
    """Parse and compile, once per text. Raises FhirPathSyntaxError (FhirPathSemanticError: an unknown function, type or variable).

    `strict`: `as` refuses several items, and `as String` a string of FHIR, as the language says. Without it several items are filtered,
    which FHIR's own search parameters and invariants expect, and `String` means FHIR's string, too, as many profiles have it.
    """
    return Expression(text, strict=strict)


compile = compile_expression


def focus(value: Any, type: str, extra: dict[str, Any] | None = None) -> Item:
    """One element as the context of an expression: its raw value, type, and the object beside a primitive."""
    return Item(value, kind_of(type), extra)


from fhir_server.fhirpath.typed import typed_paths  # noqa: E402 (it builds on this module)
