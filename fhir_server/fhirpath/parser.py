"""FHIRPath text to a syntax tree, by precedence climbing.

Specification: http://hl7.org/fhirpath/N1/grammar.html (precedence: http://hl7.org/fhirpath/N1/#operator-precedence)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NoReturn

from fhir_server.fhirpath.errors import FhirPathSyntaxError
from fhir_server.fhirpath.lexer import Token, tokens
from fhir_server.fhirpath.quantity import WORDS

MAX_NESTING = 60
"""Deepest nesting of brackets, arguments and signs."""
MAX_STEPS = 200
"""Longest chain of steps or operators of one precedence that is joined pairwise (`and`, `or`, `|` have no limit)."""

MAX_DIGITS = 100
"""Most digits of a number before its point, and after it."""

_LEVELS = (("implies",), ("or", "xor"), ("and",), ("in", "contains"), ("=", "~", "!=", "!~"), ("<=", "<", ">", ">="), ("|",), ("is", "as"),
           ("+", "-", "&"), ("*", "/", "div", "mod"))  # fmt: skip
_PRECEDENCE = {operator: level for level, operators in enumerate(_LEVELS, 1) for operator in operators}
_WORDS = frozenset(operator for operator in _PRECEDENCE if operator.isalpha())
_FLAT = frozenset(("and", "or", "|"))


@dataclass(frozen=True, slots=True)
class Node:
    """Base of all nodes; `position` is where it begins in the text (an operator's node: where the operator stands)."""

    position: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """kind: string, boolean, integer, long, decimal, date, datetime, time, quantity or empty. `text` as written.

    `unit` of a quantity; `quoted`: it is a UCUM code, else a word of the calendar.
    """

    kind: str
    text: str
    unit: str = ""
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A member's name, or a type's at the start of a path."""

    name: str


@dataclass(frozen=True, slots=True)
class Special(Node):
    """$this, $index or $total."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """An environment variable such as %resource."""

    name: str


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function; its input is the node that it is joined to."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Join(Node):
    """left.right"""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Index(Node):
    """left[index]"""

    left: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Sign(Node):
    """+x or -x"""

    sign: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """left operator right"""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Several operands joined by one of `and`, `or`, `|`."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class TypeTest(Node):
    """left is|as type; `type` may be qualified (FHIR.Patient, System.String)."""

    operator: str
    left: Node
    type: str


@dataclass(frozen=True, slots=True)
class Ordered(Node):
    """key asc|desc, as an argument of sort()."""

    key: Node
    descending: bool


def walked(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for part in fields(node):
        value = getattr(node, part.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Node):
                yield from walked(one)


def _too_deep(position: int) -> FhirPathSyntaxError:
    what = f"the expression is nested deeper than {MAX_NESTING} levels"
    return FhirPathSyntaxError(what, position, f"表达式嵌套超过 {MAX_NESTING} 层")


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _is(self, text: str) -> bool:
        token = self._tokens[self._at]
        return token.text == text and token.kind == "symbol"

    def _expect(self, text: str) -> None:
        if not self._is(text):
            self._fail(f"'{text}' is expected", f"“{text}”")
        self._at += 1

    def _fail(self, what: str, zh: str) -> NoReturn:
        """`what` is expected (`zh`: in Chinese), and something else is there."""
        token = self._token
        end = token.kind == "end"
        found, found_zh = ("the end of the expression", "表达式的结尾") if end else (f"'{token.text}'", f"“{token.text}”")
        raise FhirPathSyntaxError(f"{what}, not {found}", token.position, f"此处应为{zh}，而不是{found_zh}")

    def whole(self) -> Node:
        node = self._expression(1)
        if self._token.kind != "end":
            self._fail("an operator or the end is expected", "运算符或结尾")
        return node

    def _operator(self) -> str:
        token = self._tokens[self._at]
        if token.kind == "symbol" or (token.kind == "name" and token.text in _WORDS):
            return token.text
        return ""

    def _expression(self, least: int) -> Node:
        """An expression whose operators bind at least as tight as level `least`."""
        self._depth += 1
        if self._depth > MAX_NESTING + len(_LEVELS):
            raise _too_deep(self._token.position)
        left = self._unary()
        steps = 0
        while (level := _PRECEDENCE.get(operator := self._operator(), 0)) >= least:
            token = self._next()
            if operator in _FLAT:
                left = self._chain(token, left, level)
                continue
            steps += 1
            if steps > MAX_STEPS:
                raise FhirPathSyntaxError(
                    f"more than {MAX_STEPS} operators stand in a row", token.position, f"连续的运算符超过 {MAX_STEPS} 个"
                )
            if operator in ("is", "as"):
                left = TypeTest(token.position, operator, left, self._type_name())
            else:
                left = Binary(token.position, operator, left, self._expression(level + 1))
        self._depth -= 1
        return left

    def _chain(self, first: Token, left: Node, level: int) -> Node:
        operands = [left, self._expression(level + 1)]
        while self._operator() == first.text:
            self._at += 1
            operands.append(self._expression(level + 1))
        return Chain(first.position, first.text, tuple(operands))

    def _type_name(self) -> str:
        parts = [self._identifier()]
        while self._is("."):
            self._at += 1
            parts.append(self._identifier())
        return ".".join(parts)

    def _identifier(self) -> str:
        if self._token.kind not in ("name", "quoted"):
            self._fail("a name is expected", "名称")
        return self._next().text

    def _unary(self) -> Node:
        if not (self._is("+") or self._is("-")):
            return self._postfix()
        sign = self._next()
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise _too_deep(sign.position)
        operand = self._unary()
        self._depth -= 1
        return Sign(sign.position, sign.text, operand)

    def _postfix(self) -> Node:
        node = self._term()
        for _ in range(MAX_STEPS):
            if self._is("."):
                self._at += 1
                node = Join(node.position, node, self._invocation())
            elif self._is("["):
                position = self._next().position
                index = self._expression(1)
                self._expect("]")
                node = Index(position, node, index)
            else:
                return node
        raise FhirPathSyntaxError(f"a path has more than {MAX_STEPS} steps", self._token.position, f"路径超过 {MAX_STEPS} 步")

    def _term(self) -> Node:
        token = self._token
        if token.kind == "symbol":
            return self._bracket(token)
        if token.kind in ("string", "date", "datetime", "time", "number"):
            return self._literal()
        if token.kind == "end":
            self._fail("an expression is expected", "表达式")
        if token.kind == "name" and token.text in ("true", "false"):
            self._at += 1
            return Literal(token.position, "boolean", token.text)
        return self._invocation()

    def _bracket(self, token: Token) -> Node:
        self._at += 1
        if token.text == "(":
            node = self._expression(1)
            self._expect(")")
            return node
        if token.text == "{":
            self._expect("}")
            return Literal(token.position, "empty", "")
        if token.text == "%":
            if self._token.kind not in ("name", "quoted", "string"):
                self._fail("a variable's name is expected after %", " % 之后的变量名")
            return Variable(token.position, self._variable_name())
        self._at -= 1
        self._fail("an expression is expected", "表达式")

    def _variable_name(self) -> str:
        first = self._next()
        name = first.text
        if first.kind != "name" or name not in ("vs", "ext"):
            return name
        # The names of FHIR's %vs-... and %ext-... may stand without quotes.
        while self._is("-") and self._tokens[self._at + 1].kind in ("name", "number"):
            self._at += 1
            name += "-" + self._next().text
        return name

    def _literal(self) -> Node:
        token = self._next()
        if token.kind != "number":
            cut = {"date": 1, "datetime": 1, "time": 2}.get(token.kind, 0)
            return Literal(token.position, token.kind, token.text[cut:])
        if any(len(part.rstrip("L")) > MAX_DIGITS for part in token.text.split(".")):
            what = f"a number has more than {MAX_DIGITS} digits and is too large"
            raise FhirPathSyntaxError(what, token.position, f"数值超过 {MAX_DIGITS} 位，过大")
        if token.text.endswith("L"):
            return Literal(token.position, "long", token.text[:-1])
        follow = self._token
        if follow.kind == "string" or (follow.kind == "name" and follow.text in WORDS):
            self._at += 1
            return Literal(token.position, "quantity", token.text, follow.text, follow.kind == "string")
        return Literal(token.position, "decimal" if "." in token.text else "integer", token.text)

    def _invocation(self) -> Node:
        token = self._token
        if token.kind == "special":
            self._at += 1
            return Special(token.position, token.text)
        if token.kind not in ("name", "quoted"):
            self._fail("a name or function is expected", "名称或函数")
        self._at += 1
        if not self._is("("):
            return Name(token.position, token.text)
        self._at += 1
        arguments: list[Node] = []
        if not self._is(")"):
            arguments.append(self._argument(token.text))
            while self._is(","):
                self._at += 1
                arguments.append(self._argument(token.text))
        self._expect(")")
        return Call(token.position, token.text, tuple(arguments))

    def _argument(self, function: str) -> Node:
        node = self._expression(1)
        token = self._token
        if function == "sort" and token.kind == "name" and token.text in ("asc", "desc"):
            self._at += 1
            return Ordered(token.position, node, token.text == "desc")
        return node


def parse(text: str) -> Node:
    """The syntax tree of an expression; raises FhirPathSyntaxError."""
    return _Parser(text).whole()
