"""`_filter`: a search as an expression, with `and`, `or`, `not` and brackets.

Specification: https://hl7.org/fhir/R4/search_filter.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhir_server.search import values_of
from fhir_server.search.errors import invalid, unknown
from fhir_server.search.parameters import Parameter, Registry
from fhir_server.search.query import And, Criterion, Not, Or
from fhir_server.search.values_of import Scope, union

if TYPE_CHECKING:
    from fhir_server.search.filters import Filters

DEEPEST = 20
"""Most brackets within each other."""
MOST = 200
"""Most tests in one expression."""
LONGEST = 7
"""Most names in one path."""
_ORDERED = ("eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb")
OPERATORS = {
    "string": ("eq", "ne", "co", "sw", "ew", "pr"),
    "token": ("eq", "ne", "pr", "ss", "sb", "in", "ni"),
    "reference": ("eq", "ne", "re", "pr"),
    "uri": ("eq", "ne", "sw", "pr"),
    "date": (*_ORDERED, "po", "pr"),
    "number": (*_ORDERED, "pr"),
    "quantity": (*_ORDERED, "pr"),
    "composite": ("eq", "ne", "pr"),
    "special": ("eq",),
}
_ALL = tuple(dict.fromkeys(operator for known in OPERATORS.values() for operator in known))
_TEXT_MODES = {"eq": "whole", "co": "contains", "sw": "prefix", "ew": "suffix"}
_SET_MODIFIERS = {"ss": "below", "sb": "above", "in": "in", "ni": "not-in"}
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()\[\]]|[^\s()\[\]"|]*\|(?:[^\s()\[\]"]|\[[^\s()\[\]"]*\])*|[^\s()\[\]"]+)')
"""Behind a | square brackets belong to the value: 140|http://unitsofmeasure.org|mm[Hg]."""


@dataclass(frozen=True, slots=True)
class _Link:
    """A name of a path; `test` is what stands in its square brackets."""

    name: str
    test: _Tree | None = None


@dataclass(frozen=True, slots=True)
class _Test:
    path: tuple[_Link, ...]
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class _Joined:
    """`word`: and, or, not."""

    word: str
    parts: tuple[_Tree, ...]


_Tree = _Test | _Joined


class _Reader:
    """Reads one expression. Raises FhirError 400, naming where it cannot go on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if not found:
                raise self._fault(
                    f"cannot be read from {text[at : at + 30]!r} on: a text lacks its closing quote",
                    f"从 {text[at : at + 30]!r} 起无法读取：文本缺少结尾的引号",
                )
            self._pieces.append(found[1])
            at = found.end()
        self._at = 0
        self._tests = 0

    def _fault(self, rule: str, zh: str) -> Exception:
        return invalid("_filter", self._text, rule, zh)

    def _peek(self) -> str:
        return self._pieces[self._at] if self._at < len(self._pieces) else ""

    def _next(self, wanted: str, wanted_zh: str) -> str:
        piece = self._peek()
        if not piece:
            raise self._fault(f"ends where {wanted} is expected", f"在应为{wanted_zh}之处结束")
        self._at += 1
        return piece

    def whole(self) -> _Tree:
        tree = self._either(0)
        if self._peek():
            raise self._fault(
                f"goes on with '{self._peek()[:40]}' where 'and', 'or' or the end is expected",
                f"在应为“and”、“or”或结尾之处出现“{self._peek()[:40]}”",
            )
        return tree

    def _either(self, depth: int) -> _Tree:
        parts = [self._both(depth)]
        while self._peek().lower() == "or":
            self._at += 1
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else _Joined("or", tuple(parts))

    def _both(self, depth: int) -> _Tree:
        parts = [self._one(depth)]
        while self._peek().lower() == "and":
            self._at += 1
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else _Joined("and", tuple(parts))

    def _one(self, depth: int) -> _Tree:
        if depth > DEEPEST:
            raise self._fault(f"has more than {DEEPEST} brackets within each other", f"括号嵌套超过 {DEEPEST} 层")
        piece = self._next('a test such as name co "pet"', '条件（例如 name co "pet"）')
        if piece == "(":
            inner = self._either(depth + 1)
            self._close(")")
            return inner
        if piece.lower() == "not" and self._peek() == "(":
            self._at += 1
            inner = self._either(depth + 1)
            self._close(")")
            return _Joined("not", (inner,))
        return self._test(piece, depth)

    def _close(self, bracket: str) -> None:
        if self._next(f"'{bracket}'", f"“{bracket}”") != bracket:
            raise self._fault(
                f"has '{self._pieces[self._at - 1][:40]}' where '{bracket}' is expected",
                f"在应为“{bracket}”之处出现“{self._pieces[self._at - 1][:40]}”",
            )

    def _test(self, first: str, depth: int) -> _Test:
        self._tests += 1
        if self._tests > MOST:
            raise self._fault(f"has more than {MOST} tests", f"条件超过 {MOST} 个")
        path = self._path(first, depth)
        operator = self._next("an operator such as eq", "运算符（例如 eq）")
        if operator.lower() not in _ALL:
            raise unknown("operator", operator[:40], "_filter", _ALL)
        value = self._next("a value", "值")
        if value in ("(", ")", "[", "]"):
            raise self._fault(f"has '{value}' where a value is expected", f"在应为值之处出现“{value}”")
        if value.startswith('"'):
            try:
                value = json.loads(value, strict=False)
            except ValueError:
                raise self._fault(f"holds {value[:40]}, which is no JSON string", f"其中的 {value[:40]} 不是 JSON 字符串") from None
        return _Test(path, operator.lower(), value)

    def _path(self, first: str, depth: int) -> tuple[_Link, ...]:
        links: list[_Link] = []
        piece = first
        while True:
            if piece in ("(", ")", "[", "]") or piece.startswith('"'):
                raise self._fault(f"has '{piece[:40]}' where the name of a parameter is expected", f"在应为参数名称之处出现“{piece[:40]}”")
            names = [piece] if piece.startswith("_has:") else piece.removeprefix(".").split(".")
            if not all(names):
                raise self._fault(f"has the path '{piece[:40]}' with a name missing", f"路径“{piece[:40]}”中缺少名称")
            links += [_Link(name) for name in names]
            if len(links) > LONGEST:
                raise self._fault(f"has a path of more than {LONGEST} names", f"路径中的名称超过 {LONGEST} 个")
            if self._peek() != "[":
                return tuple(links)
            self._at += 1
            links[-1] = _Link(links[-1].name, self._either(depth + 1))
            self._close("]")
            if not self._peek().startswith("."):
                raise self._fault("has a test in square brackets that no '.' and name follow", "方括号中的条件之后应有“.”和名称")
            piece = self._next("a name", "名称")


class Expressions:
    """Turns expressions into criteria, by the same parameters as any search."""

    def __init__(self, filters: Filters, registry: Registry, scope: Scope) -> None:
        self._filters, self._registry, self._scope = filters, registry, scope

    def criterion(self, type: str, text: str) -> Criterion:
        """The criterion of an expression over one type. Raises FhirError 400."""
        return self._of(type, _Reader(text).whole())

    def _of(self, type: str, tree: _Tree) -> Criterion:
        if isinstance(tree, _Test):
            return self._test(type, tree.path, tree)
        parts = tuple(self._of(type, part) for part in tree.parts)
        if tree.word == "not":
            return Not(parts[0])
        return And(parts) if tree.word == "and" else Or(parts)

    def _test(self, type: str, path: tuple[_Link, ...], test: _Test) -> Criterion:
        first, *rest = path
        if not rest:
            return self._leaf(type, first.name, test)
        base, _, modifier = first.name.partition(":")
        inner_path = tuple(rest)

        def inner(target: str) -> Criterion:
            found = self._test(target, inner_path, test)
            return found if first.test is None else And((self._of(target, first.test), found))

        return self._filters.chain(type, "_filter", base, modifier, _named(inner_path[0].name).partition(":")[0], inner)

    def _leaf(self, type: str, name: str, test: _Test) -> Criterion:
        name = _named(name)
        operator, value = test.operator, test.value
        escaped = value.replace("\\", "\\\\").replace(",", "\\,")
        parameter = self._registry.get(type, name)
        if parameter is None:
            # _id, _lastUpdated, _has and what is unknown
            if operator in ("eq", "ne") or (name == "_lastUpdated" and operator in _ORDERED):
                prefix = operator if name == "_lastUpdated" else ""
                found = self._filters.filter(type, name, prefix + escaped)
                return Not(found) if operator == "ne" and not prefix else found
            if self._registry.get(type, name) is None and name not in ("_id", "_lastUpdated", "_list"):
                raise unknown("search parameter", name, type, self._registry.codes(type))
            raise unknown("operator", operator, f"'{name}' in _filter", ("eq", "ne"), f"_filter 中的“{name}”")
        known = OPERATORS[parameter.type]
        if operator not in known:
            raise unknown(
                "operator",
                operator,
                f"the {parameter.type} parameter '{name}' in _filter",
                known,
                f"_filter 中 {parameter.type} 类型的参数“{name}”",
            )
        if operator == "pr":
            if value not in ("true", "false"):
                raise invalid("_filter", value, f"{name} pr takes true or false", f"{name} pr 的值应为 true 或 false")
            return self._filters.filter(type, f"{name}:missing", "false" if value == "true" else "true")
        if operator in _SET_MODIFIERS and parameter.type == "token":
            return self._filters.filter(type, f"{name}:{_SET_MODIFIERS[operator]}", escaped)
        found = self._compared(parameter, type, name, operator, value, escaped)
        if operator == "ne" and parameter.type not in ("date", "number", "quantity"):
            return And((self._filters.filter(type, f"{name}:missing", "false"), Not(found)))
        return found

    def _compared(self, parameter: Parameter, type: str, name: str, operator: str, value: str, escaped: str) -> Criterion:
        if parameter.type == "string":
            mode = _TEXT_MODES["eq" if operator == "ne" else operator]
            return values_of.string(parameter, name, escaped, mode)
        if parameter.type == "uri" and operator == "sw":
            return union([values_of.uri_prefix(source.number, value) for source in parameter.sources])
        if parameter.type == "date" and operator == "po":
            return values_of.date_overlaps(parameter, name, escaped, self._scope)
        if parameter.type in ("date", "number", "quantity"):
            return self._filters.filter(type, name, operator + escaped)
        return self._filters.filter(type, name, escaped)


def _named(name: str) -> str:
    """R4's own examples say `id` for `_id`."""
    return "_id" if name == "id" else name
