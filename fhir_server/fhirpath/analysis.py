"""Strict evaluation, before anything is evaluated: names, types and order of an expression checked against FHIR's definitions.

Specification: http://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from fhir_server.fhirpath.errors import FhirPathSemanticError
from fhir_server.fhirpath.functions import FUNCTIONS
from fhir_server.fhirpath.kinds import SYSTEM_OF, kind_of
from fhir_server.fhirpath.parser import Binary, Call, Chain, Index, Join, Literal, Name, Node, Ordered, Sign, Special, TypeTest, Variable
from fhir_server.fhirpath.typenames import known_type
from fhir_server.model.definitions import definitions

Types: TypeAlias = "frozenset[str] | None"
"""Names of the types that a node may give ('HumanName', 'System.String'); None: it may be anything."""

_ANY = frozenset(("Resource", "DomainResource", "Element", "BackboneElement"))
_BOOLEAN, _STRING, _INTEGER, _DECIMAL = (frozenset((f"System.{name}",)) for name in ("Boolean", "String", "Integer", "Decimal"))
_QUANTITY_PARTS = {"value": _DECIMAL, "unit": _STRING, "system": _STRING, "code": _STRING}
_ORDERED = frozenset(("first", "last", "tail", "skip", "take"))
# What a function gives; those that are not here give anything.
_GIVES: dict[str, Types] = {
    **dict.fromkeys(
        "empty exists all allTrue anyTrue allFalse anyFalse subsetOf supersetOf isDistinct not is hasValue hasExtension memberOf subsumes "  # noqa: SIM905
        "subsumedBy conformsTo htmlChecks htmlChecks2 startsWith endsWith contains matches matchesFull comparable".split(),
        _BOOLEAN,
    ),
    **dict.fromkeys("substring upper lower replace replaceMatches toChars split join trim encode decode escape unescape".split(), _STRING),  # noqa: SIM905
    **dict.fromkeys(("count", "indexOf", "lastIndexOf", "length", "precision"), _INTEGER),
    "extension": frozenset(("Extension",)),
    "now": frozenset(("System.DateTime",)),
    "today": frozenset(("System.Date",)),
    "timeOfDay": frozenset(("System.Time",)),
    "elementDefinition": frozenset(("ElementDefinition",)),
}
_SAME = frozenset(
    "where single first last tail skip take distinct exclude intersect trace sort checkModifiers defineVariable".split()  # noqa: SIM905
)
_ON_TEXT = frozenset(
    "indexOf lastIndexOf substring startsWith endsWith contains upper lower replace matches matchesFull replaceMatches length "  # noqa: SIM905
    "toChars split trim encode decode escape unescape".split()
)
_LITERALS = {"datetime": "DateTime"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a node: its types, and whether its order means something."""

    types: Types
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where a node stands: types of $this, of the root, and whether a path may start with another type (one operand of a union)."""

    focus: Types
    root: Types
    optional: bool = False


def check(node: Node, root: str | None, *, context: Iterable[str] | None = (), check_order: bool = False) -> Types:
    """The types that an expression gives on a resource of type `root` (None: any). Raises FhirPathSemanticError.

    `context`: types of the element that the expression starts at (none: the resource; None: any). `check_order`: functions that depend
    on order are refused after children() and descendants(), whose order means nothing.
    """
    here = frozenset((root,)) if root else None
    focus = None if context is None else frozenset(context) or here
    return _Checker(check_order).see(node, None, _Scope(focus, here)).types


class _Checker:
    def __init__(self, check_order: bool) -> None:
        self._check_order = check_order
        self._see: dict[type, Callable[..., Seen]] = {
            Literal: self._literal, Name: self._name, Special: self._special, Variable: self._variable, Call: self._call, Join: self._join,
            Index: self._index, Sign: self._sign, Binary: self._binary, Chain: self._chain, TypeTest: self._type_test, Ordered: self._key,
        }  # fmt: skip

    def see(self, node: Node, source: Seen | None, scope: _Scope) -> Seen:
        """What a node gives when it is applied to `source` (None: to the focus)."""
        return self._see[type(node)](node, source, scope)

    def _apart(self, node: Node, scope: _Scope) -> Seen:
        return self.see(node, None, _Scope(scope.focus, scope.root))

    def _literal(self, node: Literal, source: Seen | None, scope: _Scope) -> Seen:
        if node.kind == "empty":
            return Seen(frozenset())
        return Seen(frozenset((f"System.{_LITERALS.get(node.kind, node.kind.capitalize())}",)))

    def _name(self, node: Name, source: Seen | None, scope: _Scope) -> Seen:
        before = scope.focus if source is None else source.types
        ordered = source is None or source.ordered
        if source is None and node.name[:1].isupper() and node.name in definitions().types:
            return Seen(self._head(node, scope), ordered)
        if before is None:
            return Seen(None, ordered)
        found: set[str] = set()
        known = not before
        for name in before:
            types = child_types(name, node.name)
            if types is None:
                return Seen(None, ordered)
            known = known or bool(types)
            found |= types
        if not known:
            raise FhirPathSemanticError(
                f"{_listed(before)} has no element '{node.name}'", node.position, f"{_listed_zh(before)} 没有元素“{node.name}”"
            )
        return Seen(frozenset(found), ordered)

    def _head(self, node: Name, scope: _Scope) -> Types:
        focus = scope.focus
        if focus is None or focus & _ANY:
            return frozenset((node.name,))
        kept = frozenset(name for name in focus if node.name in kind_of(name).bases)
        if not kept and focus and not scope.optional:
            what = f"the path starts with {node.name}, but it is evaluated on {_listed(focus)}"
            raise FhirPathSemanticError(what, node.position, f"路径以 {node.name} 开头，但求值对象是 {_listed_zh(focus)}")
        return kept

    def _special(self, node: Special, source: Seen | None, scope: _Scope) -> Seen:
        if node.name == "$this":
            return source or Seen(scope.focus)
        return Seen(_INTEGER if node.name == "$index" else None)

    def _variable(self, node: Variable, source: Seen | None, scope: _Scope) -> Seen:
        if node.name in ("resource", "rootResource"):
            return Seen(scope.root)
        if node.name in ("sct", "loinc", "ucum") or node.name.startswith(("vs-", "ext-")):
            return Seen(_STRING)
        return Seen(None)

    def _join(self, node: Join, source: Seen | None, scope: _Scope) -> Seen:
        return self.see(node.right, self.see(node.left, source, scope), scope)

    def _index(self, node: Index, source: Seen | None, scope: _Scope) -> Seen:
        left = self.see(node.left, source, scope)
        self._demand_order("[ ]", left, node)
        self._apart(node.index, scope)
        return Seen(left.types)

    def _sign(self, node: Sign, source: Seen | None, scope: _Scope) -> Seen:
        return self._apart(node.operand, scope)

    def _binary(self, node: Binary, source: Seen | None, scope: _Scope) -> Seen:
        left, right = self._apart(node.left, scope), self._apart(node.right, scope)
        if node.operator == "&":
            return Seen(_STRING)
        if node.operator in ("+", "-"):
            self._demand_addable(node, left.types, right.types)
        if node.operator in ("+", "-", "*", "/", "div", "mod"):
            return Seen(_DECIMAL if node.operator == "/" and _all_numbers(left.types, right.types) else None)
        return Seen(_BOOLEAN)

    def _demand_addable(self, node: Binary, left: Types, right: Types) -> None:
        """To a date only a quantity can be added."""
        moments = {"System.Date", "System.DateTime", "System.Time"}
        if left and right and system_types(left) <= moments and not system_types(right) & {"System.Quantity"}:
            raise FhirPathSemanticError(
                f"'{node.operator}' adds a quantity of time to {_listed(left)}, not {_listed(right)}",
                node.position,
                f"“{node.operator}”只能把时间量加到 {_listed_zh(left)} 上，而不是 {_listed_zh(right)}",
            )

    def _chain(self, node: Chain, source: Seen | None, scope: _Scope) -> Seen:
        if node.operator != "|":
            for operand in node.operands:
                self._apart(operand, scope)
            return Seen(_BOOLEAN)
        seen = [self.see(operand, None, _Scope(scope.focus, scope.root, optional=True)) for operand in node.operands]
        types = None if any(one.types is None for one in seen) else frozenset[str]().union(*(one.types or () for one in seen))
        return Seen(types, all(one.ordered for one in seen))

    def _type_test(self, node: TypeTest, source: Seen | None, scope: _Scope) -> Seen:
        left = self.see(node.left, None, scope)
        return Seen(_BOOLEAN) if node.operator == "is" else Seen(_named(node.type), left.ordered)

    def _key(self, node: Ordered, source: Seen | None, scope: _Scope) -> Seen:
        return self.see(node.key, source, scope)

    def _call(self, node: Call, source: Seen | None, scope: _Scope) -> Seen:
        name = node.name
        if name not in FUNCTIONS:
            raise FhirPathSemanticError(f"there is no function {name}()", node.position, f"没有函数 {name}()")
        before = source or Seen(scope.focus)
        if name in _ORDERED:
            self._demand_order(f"{name}()", before, node)
        if name in _ON_TEXT:
            self._demand_text(node, before.types)
        if name in ("ofType", "as", "is"):
            return Seen(_BOOLEAN if name == "is" else self._cast(node), before.ordered)
        given = self._arguments(node, before, scope)
        if name in ("children", "descendants"):
            return Seen(None, ordered=False)
        # The order of a single value means nothing, nor that of what is only tested, sorted by or shown.
        single = _GIVES.get(name) in (_BOOLEAN, _INTEGER)
        return Seen(self._result(node, before, given), single or (before.ordered and (name in _SAME or all(one.ordered for one in given))))

    def _arguments(self, node: Call, before: Seen, scope: _Scope) -> list[Seen]:
        if node.name in ("where", "select", "exists", "all", "repeat", "repeatAll", "iif", "sort", "aggregate"):
            inner = _Scope(None if node.name == "aggregate" else before.types, scope.root)
        else:
            inner = _Scope(scope.focus, scope.root)
        if node.name.startswith("repeat"):
            return [self._repeated(node, before, inner)]
        if node.name in ("trace", "defineVariable"):  # the label is of the surrounding, the projection of the input
            scopes = (inner, _Scope(before.types, scope.root))
            return [self._apart(argument, where) for argument, where in zip(node.arguments, scopes, strict=False)]
        return [self._apart(argument, inner) for argument in node.arguments]

    def _repeated(self, node: Call, before: Seen, scope: _Scope) -> Seen:
        """The types that a repeated projection can reach; what it gives need not have the projected element again."""
        first = self._apart(node.arguments[0], scope)
        reached = first.types
        while reached is not None:
            try:
                more = self._apart(node.arguments[0], _Scope(reached, scope.root)).types
            except FhirPathSemanticError:
                break
            if more is None or more <= reached:
                reached = reached if more is not None else None
                break
            reached |= more
        return Seen(reached, first.ordered)

    def _result(self, node: Call, before: Seen, given: list[Seen]) -> Types:
        name = node.name
        if name in _SAME:
            return before.types
        if name in ("select", "repeat", "repeatAll"):
            return given[0].types
        if name in ("union", "combine", "coalesce"):
            return _together([*([before] if name != "coalesce" else []), *given])
        if name == "iif":
            return _together(given[1:])
        if name.startswith("convertsTo"):
            return _BOOLEAN
        if name.startswith("to") and known_type(f"System.{name[2:]}") and name not in _GIVES:
            return frozenset((f"System.{name[2:]}",))
        return _GIVES.get(name)

    def _cast(self, node: Call) -> Types:
        argument = node.arguments[0] if len(node.arguments) == 1 else None
        if isinstance(argument, Name):
            return _named(argument.name)
        if isinstance(argument, Join) and isinstance(argument.left, Name) and isinstance(argument.right, Name):
            return _named(f"{argument.left.name}.{argument.right.name}")
        return None

    def _demand_order(self, what: str, seen: Seen, node: Node) -> None:
        if self._check_order and not seen.ordered:
            why = f"{what} depends on order, but children() and descendants() have none"
            raise FhirPathSemanticError(why, node.position, f"{what} 依赖顺序，而 children() 和 descendants() 没有顺序")

    def _demand_text(self, node: Call, types: Types) -> None:
        if types and all(name in definitions().types and name not in SYSTEM_OF and name not in _ANY for name in types):
            what = f"{node.name}() needs a string, not {_listed(types)}"
            raise FhirPathSemanticError(what, node.position, f"{node.name}() 需要字符串，而不是 {_listed_zh(types)}")


def child_types(type_name: str, name: str) -> Types:
    """The types of a child by name; empty where the type has none of that name, None where it cannot be known."""
    if type_name == "System.Quantity":
        return _QUANTITY_PARTS.get(name, frozenset())
    if type_name.startswith("System."):
        return frozenset()
    if type_name in _ANY or type_name not in definitions().types:
        return None
    field = kind_of(type_name).load().get(name)
    if field is None:
        return frozenset()
    kinds = [one.kind for one in (field.choices or {name: field}).values()]
    return None if None in kinds else frozenset(kind.name for kind in kinds if kind)


def system_types(types: Iterable[str]) -> frozenset[str]:
    """The System types that FHIR types stand for."""
    return frozenset(name if name.startswith("System.") else f"System.{SYSTEM_OF.get(name, '')}" for name in types)


def _all_numbers(left: Types, right: Types) -> bool:
    numbers = {"System.Integer", "System.Decimal", "System.Long"}
    return bool(left and right and system_types(left) <= numbers and system_types(right) <= numbers)


def _together(seen: list[Seen]) -> Types:
    if any(one.types is None for one in seen):
        return None
    return frozenset[str]().union(*(one.types or () for one in seen))


def _named(name: str) -> Types:
    full = known_type(name)
    return frozenset((full.removeprefix("FHIR."),)) if full else None


def _listed(types: Iterable[str]) -> str:
    names = sorted(types)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} other types" if len(names) > 4 else "")


def _listed_zh(types: Iterable[str]) -> str:
    names = sorted(types)
    return "、".join(names[:4]) + (f" 等 {len(names)} 种类型" if len(names) > 4 else "")
