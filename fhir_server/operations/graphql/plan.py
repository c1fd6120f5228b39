"""From selections to what is done for each resource: fields collected, merged and understood once, however many resources follow.

Specification: https://spec.graphql.org/October2021/#CollectFields(), https://hl7.org/fhir/R4/graphql.html#flattening
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphql import GraphQLError, GraphQLField, GraphQLObjectType, get_named_type, is_abstract_type, is_leaf_type
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values
from graphql.language import ast, print_ast

from fhir_server.fhirpath import Expression, FhirPathError, FhirPathSyntaxError, compile_expression
from fhir_server.operations.graphql.limits import Budget, Fragments, refuse, too_costly
from fhir_server.operations.graphql.rules import invalid
from fhir_server.operations.graphql.schema import FhirSchema
from fhir_server.operations.graphql.types import NAVIGATION, FhirType, Role

Selections = tuple[ast.SelectionNode, ...]
_NONE = Role("own")
_LONGEST_PATH = 1000
_EVERYWHERE = re.compile(r"\b(?:descendants|repeat)\b")


class Shape(NamedTuple):
    """What the directives say about the form of the answer; `slice`: a FHIRPath expression, '$index', or None."""

    flatten: bool = False
    first: bool = False
    singleton: bool = False
    slice: Expression | str | None = None


_PLAIN = Shape()


@dataclass(slots=True)
class Step:
    """One field of the answer: `key` is its name there, `selections` what is wanted of its value."""

    key: str
    name: str
    definition: GraphQLField
    role: Role
    node: ast.FieldNode
    selections: Selections = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    shape: Shape = _PLAIN
    where: Expression | None = None
    """The `fhirpath` argument: which of the values are wanted."""
    test: Expression | None = None
    """The same as a test of one resource."""
    filters: tuple[tuple[str, str], ...] = ()

    @property
    def leaf(self) -> bool:
        """Whether the value has no fields."""
        return is_leaf_type(get_named_type(self.definition.type))


def compiled(text: str, where: str) -> Expression:
    """A FHIRPath expression of a query. Raises FhirError 400."""
    if len(text) > _LONGEST_PATH:
        raise refuse(
            f"{where}: a FHIRPath expression may have {_LONGEST_PATH} characters here",
            f"{where}：此处的 FHIRPath 表达式最多 {_LONGEST_PATH} 个字符",
            "too-costly",
        )
    if len(_EVERYWHERE.findall(text)) > 1:
        raise too_costly(
            f"{where}: descendants() and repeat() may be used once; each looks at everything that the other finds",
            f"{where}：descendants() 和 repeat() 只能使用一次；每一个都会处理另一个找到的全部内容",
        )
    try:
        return compile_expression(text)
    except (FhirPathError, FhirPathSyntaxError) as fault:
        raise refuse(
            f"{where}: '{text[:200]}' is no FHIRPath expression: {fault}", f"{where}：“{text[:200]}”不是 FHIRPath 表达式：{fault.zh}"
        ) from None


class Planner:
    """Plans one operation of a document with its variables."""

    def __init__(self, schema: FhirSchema, fragments: Fragments, variables: VariableValues, budget: Budget) -> None:
        self.schema = schema
        self._fragments, self._variables, self._budget = fragments, variables, budget
        self._plans: dict[tuple[str, tuple[int, ...]], list[Step]] = {}
        self._kept: list[Selections] = []

    def steps(self, type: GraphQLObjectType, selections: Selections) -> list[Step]:
        """The fields that are selected on a type, in the order of the answer. Raises FhirError 400."""
        at = (type.name, tuple(map(id, selections)))
        found = self._plans.get(at)
        if found is None:
            nodes: dict[str, list[list[ast.FieldNode]]] = {}
            self._collect(type, selections, nodes, set())
            found = [self._step(type, key, same) for key, groups in nodes.items() for same in groups]
            self._plans[at] = found
            self._kept.append(selections)  # the ids of nodes stay theirs as long as they live
        return found

    def check(self, type: GraphQLObjectType, selections: Selections) -> None:
        """Plan all that can be planned without data. Raises FhirError 400, 422."""
        seen: set[int] = set()
        waiting = [(type, selections)]
        while waiting:
            here, wanted = waiting.pop()
            plan = self.steps(here, wanted)
            if id(plan) in seen:
                continue
            seen.add(id(plan))
            for step in plan:
                self._budget.step()
                waiting += [(inner, step.selections) for inner in self._inner_types(step)] if step.selections else []

    def _inner_types(self, step: Step) -> Iterator[GraphQLObjectType]:
        """The type below a step; where it may be any resource, the one that the argument `type` names."""
        inner: Any = get_named_type(step.definition.type)
        if not is_abstract_type(inner):
            if isinstance(inner, FhirType):
                yield inner
            return
        types: list[str] = step.arguments.get("type") or []
        if len(types) == 1:
            yield self.schema.types.of(types[0])

    # --- collecting

    def _collect(
        self, type: GraphQLObjectType, selections: Sequence[ast.SelectionNode], into: dict[str, list[list[ast.FieldNode]]], seen: set[str]
    ) -> None:
        for one in selections:
            self._budget.step()
            if not self._wanted(one):
                continue
            if isinstance(one, ast.FieldNode):
                self._put(type, one, into)
                continue
            if isinstance(one, ast.FragmentSpreadNode):
                if one.name.value in seen:
                    continue
                seen.add(one.name.value)
                fragment: Any = self._fragments[one.name.value]
            else:
                fragment = one
            condition = fragment.type_condition
            if condition is None or condition.name.value == type.name or condition.name.value in [one.name for one in type.interfaces]:
                self._collect(type, fragment.selection_set.selections, into, seen)

    def _put(self, type: GraphQLObjectType, node: ast.FieldNode, into: dict[str, list[list[ast.FieldNode]]]) -> None:
        """Merge a field with those of the same name in the answer. Raises FhirError 400 where they are not the same field."""
        key = (node.alias or node.name).value
        groups = into.setdefault(key, [])
        for same in groups:
            if _alike(same[0], node):
                same.append(node)
                return
        if groups and not (node.name.value == "resource" and type.name == "Reference"):
            raise refuse(
                f"Fields '{key[:80]}' conflict on {type}: they are different fields, or have different arguments or directives; "
                "use an alias for one of them",
                f"{type} 上的字段“{key[:80]}”相互冲突：它们是不同的字段，或参数、指令不同；请给其中一个起别名",
            )
        groups.append([node])

    def _wanted(self, node: ast.SelectionNode) -> bool:
        """What @skip and @include say."""
        for one in node.directives or ():
            if one.name.value in ("skip", "include"):
                directive = self.schema.get_directive(one.name.value)
                assert directive is not None
                if self._coerced(directive, one)["if"] == (one.name.value == "skip"):
                    return False
        return True

    def _coerced(self, definition: Any, node: Any) -> dict[str, Any]:
        try:
            return get_argument_values(definition, node, self._variables)
        except GraphQLError as fault:
            raise invalid([fault]) from None

    # --- understanding

    def _step(self, type: GraphQLObjectType, key: str, nodes: list[ast.FieldNode]) -> Step:
        node = nodes[0]
        name = node.name.value
        definition = self.schema.get_field(type, name)
        if definition is None:
            raise refuse(f"Cannot query field '{name[:80]}' on type '{type}'.", f"类型“{type}”没有字段“{name[:80]}”，不能查询")
        for argument in node.arguments or ():
            if argument.name.value not in definition.args:
                raise refuse(
                    f"Unknown argument '{argument.name.value[:80]}' on field '{type}.{name}'.",
                    f"字段“{type}.{name}”没有参数“{argument.name.value[:80]}”",
                )
        selections: Selections = tuple(one for same in nodes if same.selection_set for one in same.selection_set.selections)
        step = Step(key, name, definition, getattr(definition, "role", _NONE), node, selections)
        if step.leaf and selections:
            raise refuse(
                f"Field '{name}' of {type} is a scalar: nothing can be selected of it", f"{type} 的字段“{name}”是标量：不能再选择其中的字段"
            )
        if not step.leaf and not selections and step.role.kind != "delete":
            raise refuse(
                f"Field '{name}' of {type} is an object: say which of its fields are wanted",
                f"{type} 的字段“{name}”是对象：请指明需要其中的哪些字段",
            )
        step.arguments = self._coerced(definition, node)
        step.shape = self._shape(node)
        self._understand(type, step)
        return step

    def _shape(self, node: ast.FieldNode) -> Shape:
        flags = {"flatten": False, "first": False, "singleton": False}
        sliced: Expression | str | None = None
        for one in node.directives or ():
            name = one.name.value
            if name == "slice":
                directive = self.schema.get_directive(name)
                path = self._coerced(directive, one)["path"]
                sliced = path if path == "$index" else compiled(path, "@slice(path:)")
            elif name in flags:
                flags[name] = True
        return Shape(**flags, slice=sliced)

    def _understand(self, type: GraphQLObjectType, step: Step) -> None:
        place = f"{type}.{step.name}"
        for name in ("_offset", "_count"):
            number = step.arguments.get(name)
            if number is not None and number < 0:
                raise refuse(
                    f"{place}({name}:) must be a whole number from 0 on, not {number}",
                    f"{place}({name}:) 应为非负整数，而不是 {number}",
                    "value",
                )
        path = step.arguments.get("fhirpath")
        if path is not None:
            step.test = compiled(path, f"{place}(fhirpath:)")
            step.where = compiled(f"where({path}\n)", f"{place}(fhirpath:)")
        kind = step.role.kind
        if kind == "complex":
            chosen = [(name, value) for name, value in step.arguments.items() if name not in NAVIGATION and value is not None]
            step.filters = tuple((name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in chosen)
        elif kind == "resource":
            for wanted in step.arguments.get("type") or ():
                if wanted not in self.schema.types.definitions.resource_types:
                    raise refuse(
                        f"{place}(type:): '{str(wanted)[:80]}' is no resource type",
                        f"{place}(type:)：“{str(wanted)[:80]}”不是资源类型",
                        "value",
                    )
        elif step.role.reverse:
            code = step.arguments["_reference"]
            found = next((one for one in step.role.reverse if code in (one, one.replace("-", "_"))), None)
            if found is None:
                known = ", ".join(step.role.reverse)
                raise refuse(
                    f"{place}(_reference:): '{str(code)[:80]}' leads from {step.role.fhir} to no {type}; {known} can",
                    f"{place}(_reference:)：从 {step.role.fhir} 经“{str(code)[:80]}”不能到达 {type}；可用：{known}",
                    "value",
                )
            step.arguments["_reference"] = found


def _alike(one: ast.FieldNode, other: ast.FieldNode) -> bool:
    """Whether two fields are the same, but for what is selected of them, and for @skip and @include, which have been done."""
    if one.name.value != other.name.value:
        return False
    if not (one.arguments or other.arguments or one.directives or other.directives):
        return True
    return _signature(one) == _signature(other)


def _signature(node: ast.FieldNode) -> tuple[list[str], list[str]]:
    directives = [print_ast(one) for one in node.directives or () if one.name.value not in ("skip", "include")]
    return sorted(print_ast(one) for one in node.arguments or ()), sorted(directives)


def variables_of(schema: FhirSchema, operation: ast.OperationDefinitionNode, given: dict[str, Any]) -> VariableValues:
    """The coerced values of the declared variables. Raises FhirError 400 for one that is absent or of another type."""
    found = get_variable_values(schema, operation.variable_definitions or (), given, max_errors=20)
    if isinstance(found, list):
        raise invalid(found)
    return found
