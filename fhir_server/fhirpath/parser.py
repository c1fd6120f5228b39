"""FHIRPath text to a syntax tree.

Specification: http://hl7.org/fhirpath/N1/grammar.html (precedence: http://hl7.org/fhirpath/N1/#operator-precedence)
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.fhirpath.errors import FhirPathSyntaxError
from fhir_server.fhirpath.lexer import Token, tokens

MAX_NESTING = 100
_UNITS = {"year", "years", "month", "months", "week", "weeks", "day", "days", "hour", "hours", "minute", "minutes", "second", "seconds", "millisecond", "milliseconds"}  # fmt: skip
_BINARY = (
    ({"implies"},),
    ({"or", "xor"},),
    ({"and"},),
    ({"in", "contains"},),
    ({"=", "~", "!=", "!~"},),
    ({"<=", "<", ">", ">="},),
    ({"|"},),
    ({"is", "as"},),
    ({"+", "-", "&"},),
    ({"*", "/", "div", "mod"},),
)


@dataclass(frozen=True, slots=True)
class Node:
    """Base of all nodes; `position` is where it begins in the text."""

    position: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """kind: string, boolean, integer, long, decimal, date, datetime, time, quantity or empty. `text` as written; `unit` of a quantity."""

    kind: str
    text: str
    unit: str = ""


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
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class TypeTest(Node):
    """left is|as type; `type` may be qualified (FHIR.Patient, System.String)."""

    operator: str
    left: Node
    type: str


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

    def _is(self, *texts: str) -> bool:
        token = self._token
        return token.kind in ("symbol", "name") and token.text in texts

    def _expect(self, text: str) -> Token:
        if not self._is(text):
            raise self._fault(f"'{text}' is expected")
        return self._next()

    def _fault(self, what: str) -> FhirPathSyntaxError:
        token = self._token
        found = "the end of the expression" if token.kind == "end" else f"'{token.text}'"
        return FhirPathSyntaxError(f"{what}, found {found}", token.position)

    def whole(self) -> Node:
        node = self._binary(0)
        if self._token.kind != "end":
            raise self._fault("an operator or the end is expected")
        return node

    def _binary(self, level: int) -> Node:
        if level == len(_BINARY):
            return self._unary()
        (operators,) = _BINARY[level]
        self._depth += level == 0
        if self._depth > MAX_NESTING:
            raise FhirPathSyntaxError(f"the expression is nested deeper than {MAX_NESTING} levels", self._token.position)
        left = self._binary(level + 1)
        while self._is(*operators):
            operator = self._next()
            if operators == {"is", "as"}:
                left = TypeTest(operator.position, operator.text, left, self._type_name())
            else:
                left = Binary(operator.position, operator.text, left, self._binary(level + 1))
        self._depth -= level == 0
        return left

    def _type_name(self) -> str:
        parts = [self._identifier()]
        while self._is("."):
            self._next()
            parts.append(self._identifier())
        return ".".join(parts)

    def _identifier(self) -> str:
        if self._token.kind not in ("name", "quoted"):
            raise self._fault("a name is expected")
        return self._next().text

    def _unary(self) -> Node:
        signs = []
        while self._is("+", "-"):
            signs.append(self._next())
            if len(signs) > MAX_NESTING:
                raise FhirPathSyntaxError("too many signs", signs[-1].position)
        node = self._postfix()
        for sign in reversed(signs):
            node = Sign(sign.position, sign.text, node)
        return node

    def _postfix(self) -> Node:
        node = self._term()
        while True:
            if self._is("."):
                self._next()
                node = Join(node.position, node, self._invocation())
            elif self._is("["):
                position = self._next().position
                index = self._binary(0)
                self._expect("]")
                node = Index(position, node, index)
            else:
                return node

    def _term(self) -> Node:
        token = self._token
        if token.kind == "symbol":
            if token.text == "(":
                self._next()
                node = self._binary(0)
                self._expect(")")
                return node
            if token.text == "{":
                self._next()
                self._expect("}")
                return Literal(token.position, "empty", "")
            if token.text == "%":
                self._next()
                if self._token.kind not in ("name", "quoted", "string"):
                    raise self._fault("a variable's name is expected after %")
                return Variable(token.position, self._variable_name())
            raise self._fault("an expression is expected")
        if token.kind in ("string", "date", "datetime", "time", "number"):
            return self._literal()
        if token.kind == "name" and token.text in ("true", "false"):
            self._next()
            return Literal(token.position, "boolean", token.text)
        return self._invocation()

    def _variable_name(self) -> str:
        first = self._next()
        name = first.text
        if first.kind != "name":
            return name
        # %vs-name and %ext-name may be written without quotes
        while name.startswith(("vs", "ext")) and self._is("-") and self._tokens[self._at + 1].kind == "name":
            self._next()
            name += "-" + self._next().text
        return name

    def _literal(self) -> Node:
        token = self._next()
        if token.kind != "number":
            text = token.text[1:] if token.kind in ("date", "datetime") else token.text[2:] if token.kind == "time" else token.text
            return Literal(token.position, token.kind, text)
        if token.text.endswith("L"):
            return Literal(token.position, "long", token.text[:-1])
        follow = self._token
        if follow.kind == "string" or (follow.kind == "name" and follow.text in _UNITS):
            self._next()
            unit = follow.text
            return Literal(token.position, "quantity", token.text, f"'{unit}'" if follow.kind == "string" else unit)
        return Literal(token.position, "decimal" if "." in token.text else "integer", token.text)

    def _invocation(self) -> Node:
        token = self._token
        if token.kind == "special":
            self._next()
            return Special(token.position, token.text)
        if token.kind not in ("name", "quoted"):
            raise self._fault("a name or function is expected")
        self._next()
        if not self._is("("):
            return Name(token.position, token.text)
        self._next()
        arguments: list[Node] = []
        if not self._is(")"):
            arguments.append(self._binary(0))
            while self._is(","):
                self._next()
                arguments.append(self._binary(0))
        self._expect(")")
        return Call(token.position, token.text, tuple(arguments))


def parse(text: str) -> Node:
    """The syntax tree of an expression; raises FhirPathSyntaxError."""
    return _Parser(text).whole()
