"""Whether a query is valid: the rules of the GraphQL specification, loosened where FHIR's page is looser.

Looser: fields of the actual resource may be asked for on `resource` without a fragment; `resource(type:)` may stand twice under one
name; a nullable variable may stand where a value is needed; text scalars stand in for each other; a deletion needs no selection.
Fields that merge are looked at when the query is planned, in linear time.
Specification: https://spec.graphql.org/October2021/#sec-Validation
"""

from __future__ import annotations

from typing import Any

from graphql import GraphQLError, GraphQLNamedType, get_named_type, is_abstract_type, is_leaf_type, is_list_type, type_from_ast, validate
from graphql.language import ast
from graphql.pyutils import did_you_mean, suggestion_list
from graphql.type import get_nullable_type
from graphql.validation import (
    FieldsOnCorrectTypeRule,
    MaxIntrospectionDepthRule,
    OverlappingFieldsCanBeMergedRule,
    ScalarLeafsRule,
    VariablesInAllowedPositionRule,
    specified_rules,
)

from fhir_server.errors import FhirError, Issue
from fhir_server.operations.graphql.scalars import SEARCHED, family
from fhir_server.operations.graphql.schema import FhirSchema

_MOST_ERRORS = 20


class FieldsOfSomeResource(FieldsOnCorrectTypeRule):
    """A field of an abstract type (Resource) must be one of some resource; what the actual one has is seen when it is read."""

    def enter_field(self, node: ast.FieldNode, *_args: Any) -> None:
        type = self.context.get_parent_type()
        if type is None or self.context.get_field_def() is not None:
            return
        name, schema = node.name.value, self.context.schema
        assert isinstance(schema, FhirSchema)
        if is_abstract_type(type):
            known = schema.types.definitions
            candidates = [one for one in known.resource_types if known.is_subtype(one, type.name)]
            if any(name in known.types[one].by_json or name.removeprefix("_") in known.types[one].by_json for one in candidates):
                return
            if name.endswith(("List", "Connection")) and name.removesuffix("List").removesuffix("Connection") in candidates:
                return
            close: list[str] = []
        else:
            close = suggestion_list(name, list(getattr(type, "fields", ())))[:3]
        self.report_error(GraphQLError(f"Cannot query field '{name[:80]}' on type '{type}'." + did_you_mean(close), node))


class LeafsButDeletions(ScalarLeafsRule):
    """Objects need a selection, scalars have none; a deletion returns nothing, and may do without."""

    def enter_field(self, node: ast.FieldNode, *_args: Any) -> None:
        field = self.context.get_field_def()
        if getattr(getattr(field, "role", None), "kind", "") == "delete" and not (node.selection_set and node.selection_set.selections):
            return
        super().enter_field(node)


class VariablesFit(VariablesInAllowedPositionRule):
    """A variable may stand where its kind of scalar is wanted; a single value also where a search takes several."""

    def leave_operation_definition(self, operation: ast.OperationDefinitionNode, *_args: Any) -> None:
        for usage in self.context.get_recursive_variable_usages(operation):
            declared = self.var_def_map.get(usage.node.name.value)
            given = declared and type_from_ast(self.context.schema, declared.type)
            if declared and given and usage.type and not _fits(given, usage.type):
                name = usage.node.name.value[:80]
                message = f"Variable '${name}' of type '{given}' used in position expecting type '{usage.type}'."
                self.report_error(GraphQLError(message, [declared, usage.node]))


def _fits(given: Any, wanted: Any) -> bool:
    given, wanted = get_nullable_type(given), get_nullable_type(wanted)
    if is_list_type(given) != is_list_type(wanted):
        # The arguments of searches take one value or several; nowhere else does a variable become a list.
        return is_list_type(wanted) and _scalar_fits(given, get_named_type(wanted), several=True)
    if is_list_type(wanted):
        return _fits(given.of_type, wanted.of_type)
    return _scalar_fits(given, wanted)


def _scalar_fits(given: GraphQLNamedType, wanted: GraphQLNamedType, several: bool = False) -> bool:
    if not is_leaf_type(given) or not is_leaf_type(wanted):
        return given is wanted and not several
    if wanted.name in SEARCHED:
        return given.name != "ResourceInput"
    return family(given.name) == family(wanted.name)


_INSTEAD: dict[Any, Any] = {
    FieldsOnCorrectTypeRule: FieldsOfSomeResource,
    ScalarLeafsRule: LeafsButDeletions,
    VariablesInAllowedPositionRule: VariablesFit,
}
RULES: list[Any] = [_INSTEAD.get(rule, rule) for rule in specified_rules if rule is not OverlappingFieldsCanBeMergedRule]
if MaxIntrospectionDepthRule not in RULES:
    RULES.append(MaxIntrospectionDepthRule)


def invalid(faults: list[GraphQLError]) -> FhirError:
    """400 with an issue for each fault, with its place in the query."""
    issues = []
    for fault in faults:
        place = f" (line {fault.locations[0].line}, column {fault.locations[0].column})" if fault.locations else ""
        place_zh = f"（第 {fault.locations[0].line} 行，第 {fault.locations[0].column} 列）" if fault.locations else ""
        message = fault.message if len(fault.message) < 600 else fault.message[:600] + "…"
        # The sentence is that of the GraphQL library, which speaks English.
        issues.append(Issue("invalid", message + place, zh=f"GraphQL 查询无效{place_zh}：{message}"))
    return FhirError(400, issues)


def check(schema: FhirSchema, document: ast.DocumentNode) -> None:
    """Raise FhirError 400 with all faults that can be seen without any data."""
    faults = validate(schema, document, RULES, max_errors=_MOST_ERRORS)
    if faults:
        raise invalid(list(faults))
