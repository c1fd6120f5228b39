"""Syntax tree → closures. Nothing of the tree is walked while an expression is evaluated.

Specification: http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath import equality, operators
from fhir_server.fhirpath.code import EMPTY, FALSE, TRUE, Code, constant, of_truth, of_value
from fhir_server.fhirpath.errors import FhirPathError, FhirPathSemanticError, FhirPathSyntaxError
from fhir_server.fhirpath.evaluation import Env, Many, Truth, checked_text, integer, several, single_value, string
from fhir_server.fhirpath.functions import FUNCTIONS
from fhir_server.fhirpath.functions.declare import Site
from fhir_server.fhirpath.items import Collection, Item, Long, add_member, collection_of
from fhir_server.fhirpath.parser import Binary, Call, Chain, Index, Join, Literal, Name, Node, Ordered, Sign, Special, TypeTest, Variable
from fhir_server.fhirpath.quantity import of_literal
from fhir_server.fhirpath.references import points_to
from fhir_server.fhirpath.temporal import parse_temporal
from fhir_server.fhirpath.typenames import type_test
from fhir_server.model.definitions import definitions

FIXED = {"sct": "http://snomed.info/sct", "loinc": "http://loinc.org", "ucum": "http://unitsofmeasure.org"}
"""The variables that every evaluation has; FHIR's %vs-… and %ext-… are made of their names."""


class Compiler:
    """Compiles one expression. `strict`: `as` is what the language says; without it, it filters several items, and `String` means
    FHIR's string, too.

    `defined` maps the variables that defineVariable() defines, where they can be seen, to their slots.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.defined: dict[str, int] = {}
        self._slots = 0

    def new_slot(self, name: str, position: int) -> int:
        """A place for the value of a new variable; raises FhirPathSemanticError for a name that is taken."""
        if name in self.defined or name in FIXED or name in ("context", "resource", "rootResource") or name.startswith(("vs-", "ext-")):
            raise FhirPathSemanticError(f"the variable %{name} is defined already", position, f"变量 %{name} 已定义")
        self._slots += 1
        self.defined = {**self.defined, name: self._slots}
        return self._slots

    def apart(self, node: Node, source: Many | None = None) -> Code:
        """The code of an operand or argument: what it defines cannot be seen outside."""
        before = self.defined
        made = self.code(node, source)
        self.defined = before
        return made

    def code(self, node: Node, source: Many | None = None) -> Code:
        """The code of a node, applied to what `source` gives (None: to the focus). Raises FhirPathSyntaxError."""
        return _BUILDERS[type(node)](self, node, source)


def _literal(compiler: Compiler, node: Literal, source: Many | None) -> Code:
    kind, text = node.kind, node.text
    if kind == "empty":
        return constant(EMPTY)
    if kind == "string":
        return constant([text])
    if kind == "boolean":
        return constant(TRUE if text == "true" else FALSE)
    if kind in ("integer", "long"):
        return constant([_whole(node, 1)])
    if kind == "decimal":
        return constant([Decimal(text)])
    if kind == "quantity":
        return constant([of_literal(text, node.unit, node.quoted)])
    moment = parse_temporal(text, {"date": "Date", "datetime": "DateTime", "time": "Time"}[kind])
    if moment is None:
        said = f"@{'T' if kind == 'time' else ''}{text}"
        raise FhirPathSyntaxError(f"{said} does not exist", node.position, f"{said} 不存在")
    return constant([moment])


def _whole(node: Literal, sign: int) -> int:
    """An Integer (32 bits) or Long (64 bits), whose lowest value can only be written with its sign. Raises FhirPathSyntaxError."""
    long = node.kind == "long"
    value = operators.in_range(Long(sign * int(node.text)) if long else sign * int(node.text))
    if value is None:
        kind = "Long" if long else "Integer"
        raise FhirPathSyntaxError(f"{node.text} is no {kind}: it is too large", node.position, f"{node.text} 过大，不是 {kind}")
    return value


def _name(compiler: Compiler, node: Name, source: Many | None) -> Code:
    name = node.name
    if source is None:
        return Code(_head(name))

    def member(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        for item in source(focus, env):
            add_member(item, name, found)
        return found

    return Code(member)


def _head(name: str) -> Many:
    """A name at the start of a path: a type that the focus has to be of, else a child."""

    def member(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        for item in focus:
            add_member(item, name, found)
        return found

    if not name[:1].isupper() or name not in definitions().types:
        return member

    def typed(focus: Collection, env: Env) -> Collection:
        kept = [item for item in focus if item.__class__ is Item and name in item.kind.bases]
        return kept if kept else member(focus, env)

    return typed


def _special(compiler: Compiler, node: Special, source: Many | None) -> Code:
    if node.name == "$this":
        return Code(source if source is not None else lambda focus, env: focus)
    if node.name == "$index":
        return Code(lambda focus, env: EMPTY if env.index is None else [env.index])
    return Code(lambda focus, env: env.total)


def _variable(compiler: Compiler, node: Variable, source: Many | None) -> Code:
    name = node.name
    slot = compiler.defined.get(name)
    if slot is not None:
        return Code(lambda focus, env: env.slots.get(slot, EMPTY))
    if name == "context":
        return Code(lambda focus, env: env.context)
    if name == "resource":
        return Code(lambda focus, env: [env.resource] if env.resource is not None else EMPTY)
    if name == "rootResource":
        return Code(lambda focus, env: [env.root] if env.root is not None else EMPTY)
    if name in FIXED:
        return constant([FIXED[name]])
    fallback: Collection | None = None
    if name.startswith("vs-"):
        fallback = [f"http://hl7.org/fhir/ValueSet/{name[3:]}"]
    elif name.startswith("ext-"):
        fallback = [f"http://hl7.org/fhir/StructureDefinition/{name[4:]}"]

    def look_up(focus: Collection, env: Env) -> Collection:
        if name in env.variables:
            return collection_of(env.variables[name])
        if fallback is None:
            raise FhirPathError(f"the variable %{name} is not defined", f"变量 %{name} 未定义")
        return fallback

    return Code(look_up)


def _call(compiler: Compiler, node: Call, source: Many | None) -> Code:
    found = FUNCTIONS.get(node.name)
    if found is None:
        raise FhirPathSemanticError(f"there is no function {node.name}()", node.position, f"没有函数 {node.name}()")
    if not found.least <= len(node.arguments) <= found.most:
        wanted = str(found.least) if found.least == found.most else f"{found.least} to {found.most}"
        what = f"{node.name}() takes {wanted} arguments, not {len(node.arguments)}"
        zh = f"{node.name}() 需要 {wanted.replace(' to ', '～')} 个参数，而不是 {len(node.arguments)} 个"
        raise FhirPathSemanticError(what, node.position, zh)
    return found.build(Site(compiler, node, source))


def _join(compiler: Compiler, node: Join, source: Many | None) -> Code:
    return compiler.code(node.right, compiler.code(node.left, source).many)


def _index(compiler: Compiler, node: Index, source: Many | None) -> Code:
    left, place = compiler.code(node.left, source).many, compiler.apart(node.index).many

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = left(focus, env)
        at = integer(place(focus, env), "an index")
        return [items[at]] if at is not None and 0 <= at < len(items) else EMPTY

    return Code(evaluate)


def _sign(compiler: Compiler, node: Sign, source: Many | None) -> Code:
    sign = node.sign
    if isinstance(node.operand, Literal) and node.operand.kind in ("integer", "long"):
        return constant([_whole(node.operand, -1 if sign == "-" else 1)])
    operand = compiler.apart(node.operand)
    what = f"unary {sign}"
    if operand.value is not None and operand.value:
        signed = operators.signed(sign, operand.value[0])
        return constant(EMPTY if signed is None else [signed])

    def evaluate(focus: Collection, env: Env) -> Collection:
        value = single_value(operand.many(focus, env), what)
        return EMPTY if value is None or (found := operators.signed(sign, value)) is None else [found]

    return Code(evaluate)


def _binary(compiler: Compiler, node: Binary, source: Many | None) -> Code:
    left, right = compiler.apart(node.left), compiler.apart(node.right)
    operator = node.operator
    if operator in operators.ARITHMETIC:
        return _arithmetic(operator, left.many, right.many)
    if operator in operators.ORDER:
        return _order(operator, left.many, right.many)
    return _BINARY[operator](left, right)


def _arithmetic(operator: str, left: Many, right: Many) -> Code:
    work, what = operators.ARITHMETIC[operator], f"'{operator}'"

    def value(focus: Collection, env: Env) -> Any:
        a, b = single_value(left(focus, env), what), single_value(right(focus, env), what)
        return None if a is None or b is None else work(a, b)

    return of_value(value)


def _order(operator: str, left: Many, right: Many) -> Code:
    test, what = operators.ORDER[operator], f"'{operator}'"

    def truth(focus: Collection, env: Env) -> bool | None:
        a, b = single_value(left(focus, env), what), single_value(right(focus, env), what)
        if a is None or b is None:
            return None
        order = equality.compare_values(a, b, operator)
        return None if order is None else test(order)

    return of_truth(truth)


def _concatenate(left: Code, right: Code) -> Code:
    one, other = left.many, right.many
    return of_value(lambda focus, env: checked_text((string(one(focus, env), "'&'") or "") + (string(other(focus, env), "'&'") or "")))


def _equals(left: Code, right: Code) -> Code:
    one, other = left.many, right.many
    wanted = right.value[0] if right.value is not None and len(right.value) == 1 else None
    if isinstance(wanted, str):
        return of_truth(_equals_text(one, wanted))
    return of_truth(lambda focus, env: equality.equal_collections(one(focus, env), other(focus, env)))


def _equals_text(one: Many, wanted: str) -> Callable[[Collection, Env], bool | None]:
    """`path = 'text'`, the commonest condition of all."""
    wanted_list = [wanted]

    def truth(focus: Collection, env: Env) -> bool | None:
        items = one(focus, env)
        if len(items) != 1:
            return False if items else None
        item = items[0]
        if item.__class__ is Item and item.kind.convert is None and item.value.__class__ is str:
            return item.value == wanted
        return equality.equal_collections(items, wanted_list)

    return truth


def _differs(left: Code, right: Code) -> Code:
    same = _equals(left, right).condition("'!='")

    def truth(focus: Collection, env: Env) -> bool | None:
        found = same(focus, env)
        return None if found is None else not found

    return of_truth(truth)


def _equivalent(left: Code, right: Code) -> Code:
    one, other = left.many, right.many
    return of_truth(lambda focus, env: equality.equivalent_collections(one(focus, env), other(focus, env)))


def _not_equivalent(left: Code, right: Code) -> Code:
    one, other = left.many, right.many
    return of_truth(lambda focus, env: not equality.equivalent_collections(one(focus, env), other(focus, env)))


def _in(left: Code, right: Code) -> Code:
    one, other = left.many, right.many
    return of_truth(lambda focus, env: operators.member(one(focus, env), other(focus, env), "in"))


def _contains(left: Code, right: Code) -> Code:
    one, other = left.many, right.many
    return of_truth(lambda focus, env: operators.member(other(focus, env), one(focus, env), "contains"))


def _xor(left: Code, right: Code) -> Code:
    one, other = left.condition("'xor'"), right.condition("'xor'")

    def truth(focus: Collection, env: Env) -> bool | None:
        a, b = one(focus, env), other(focus, env)
        return None if a is None or b is None else a is not b

    return of_truth(truth)


def _implies(left: Code, right: Code) -> Code:
    one, other = left.condition("'implies'"), right.condition("'implies'")

    def truth(focus: Collection, env: Env) -> bool | None:
        a = one(focus, env)
        if a is False:
            return True
        b = other(focus, env)
        return b if a else True if b else None

    return of_truth(truth)


_BINARY: dict[str, Callable[[Code, Code], Code]] = {
    "&": _concatenate, "=": _equals, "!=": _differs, "~": _equivalent, "!~": _not_equivalent, "in": _in, "contains": _contains,
    "xor": _xor, "implies": _implies,
}  # fmt: skip


def _chain(compiler: Compiler, node: Chain, source: Many | None) -> Code:
    operands = [compiler.apart(operand) for operand in node.operands]
    if node.operator == "|":
        return Code(union([operand.many for operand in operands]))
    conditions = [operand.condition(f"'{node.operator}'") for operand in operands]
    # `and` is decided by the first false, `or` by the first true; the rest is not evaluated then.
    return of_truth(_until(conditions, decisive=node.operator == "or"))


def _until(conditions: list[Callable[[Collection, Env], bool | None]], *, decisive: bool) -> Callable[[Collection, Env], bool | None]:
    if len(conditions) == 2:
        one, other = conditions

        def pair(focus: Collection, env: Env) -> bool | None:
            a = one(focus, env)
            if a is decisive:
                return a
            b = other(focus, env)
            return b if b is decisive else None if a is None or b is None else b

        return pair

    def truth(focus: Collection, env: Env) -> bool | None:
        unknown = False
        for condition in conditions:
            found = condition(focus, env)
            if found is decisive:
                return found
            unknown |= found is None
        return None if unknown else not decisive

    return truth


def union(operands: list[Many]) -> Many:
    """a | b | …: all items, without repetitions."""

    def evaluate(focus: Collection, env: Env) -> Collection:
        found: Collection = []
        for operand in operands:
            found += operand(focus, env)
        env.spend(len(found))
        return equality.distinct(found)

    return evaluate


def _type_test(compiler: Compiler, node: TypeTest, source: Many | None) -> Code:
    left = compiler.apart(node.left).many
    if node.operator == "is":
        test = type_test(node.type, node.position)

        def truth(focus: Collection, env: Env) -> bool | None:
            items = left(focus, env)
            if len(items) > 1:
                raise several("'is'", len(items))
            return test(items[0]) if items else None

        return of_truth(_points_to(compiler, node, truth))
    return Code(cast(left, type_test(node.type, node.position, exact=True, lenient=not compiler.strict), strict=compiler.strict))


def _points_to(compiler: Compiler, node: TypeTest, otherwise: Truth) -> Truth:
    """`resolve() is T` is mostly decided by the reference itself, without loading what it points to."""
    left = node.left
    call, before = (left.right, left.left) if isinstance(left, Join) else (left, None)
    if not isinstance(call, Call) or call.name != "resolve" or node.type not in definitions().resource_types:
        return otherwise
    source = compiler.apart(before).many if before is not None else None

    def truth(focus: Collection, env: Env) -> bool | None:
        items = source(focus, env) if source is not None else focus
        if len(items) != 1:
            return otherwise(focus, env)
        return points_to(items[0], node.type, env)

    return truth


def cast(left: Many, test: Callable[[Any], bool], *, strict: bool) -> Many:
    """`as`: the items of the type; with `strict` there may be one item only."""

    def evaluate(focus: Collection, env: Env) -> Collection:
        items = left(focus, env)
        if strict and len(items) > 1:
            raise FhirPathError(
                f"'as' needs a single item, not {len(items)}; ofType() takes several",
                f"“as”需要单个项，而不是 {len(items)} 个；多个项请用 ofType()",
            )
        return [item for item in items if test(item)]

    return evaluate


def _ordered(compiler: Compiler, node: Ordered, source: Many | None) -> Code:
    return compiler.code(node.key, source)


_BUILDERS: dict[type, Callable[..., Code]] = {
    Literal: _literal, Name: _name, Special: _special, Variable: _variable, Call: _call, Join: _join, Index: _index, Sign: _sign,
    Binary: _binary, Chain: _chain, TypeTest: _type_test, Ordered: _ordered,
}  # fmt: skip
