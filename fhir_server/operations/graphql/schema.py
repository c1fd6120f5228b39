"""The schema that a query is checked against: the same types at each level, with another root.

System level: `Patient(id:)`, `PatientList(...)`, `PatientConnection(...)` of every type, and the mutations. Type level: those of one type.
Instance level: the resource itself.
Specification: https://hl7.org/fhir/R4/graphql.html#searching, #mutations, #flattening
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphql import (
    DirectiveLocation,
    GraphQLArgument,
    GraphQLDirective,
    GraphQLIncludeDirective,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
)
from graphql.type.schema import InterfaceImplementations

from fhir_server.model.definitions import Definitions
from fhir_server.operations.graphql.arguments import SearchArguments, leads_anywhere
from fhir_server.operations.graphql.types import FhirField, FhirType, FhirTypes, Fields, Role
from fhir_server.search.parameters import Registry as SearchRegistry


def _directives(types: FhirTypes) -> tuple[GraphQLDirective, ...]:
    where = [DirectiveLocation.FIELD]
    path: Any = GraphQLNonNull(types["String"])  # type: ignore[type-var]
    return (
        GraphQLSkipDirective,
        GraphQLIncludeDirective,
        GraphQLDirective("flatten", where, description="The field's children stand in its place"),
        GraphQLDirective("first", where, description="Only the first of the values"),
        GraphQLDirective("singleton", where, description="A single value, not a list"),
        GraphQLDirective("slice", where, {"path": GraphQLArgument(path)}, description="The result of a FHIRPath is appended to the name"),
    )


class FhirSchema(GraphQLSchema):
    """A schema whose types are built when they are asked for; the official constructor would build all of them at once."""

    def __init__(self, types: FhirTypes, query: FhirType, mutation: FhirType | None, directives: tuple[GraphQLDirective, ...]) -> None:
        self.types, self.type_map = types, types  # type: ignore[assignment]
        self.query_type, self.mutation_type, self.subscription_type = query, mutation, None
        self.directives = directives
        self.description = "HL7 FHIR R4 (4.0.1)"
        self.extensions, self.ast_node, self.extension_ast_nodes = {}, None, ()
        self.assume_valid = True
        self._validation_errors = []
        self._sub_type_map = {}

    def get_implementations(self, interface_type: Any) -> InterfaceImplementations:
        definitions = self.types.definitions
        of_all = interface_type.name == "Resource"
        objects = [
            self.types.of(name) for name in definitions.resource_types if of_all or definitions.is_subtype(name, interface_type.name)
        ]
        interfaces: list[Any] = [self.types["DomainResource"]] if of_all else []
        return InterfaceImplementations(objects=objects, interfaces=interfaces)  # type: ignore[arg-type]

    def is_sub_type(self, abstract_type: Any, maybe_sub_type: Any) -> bool:
        name, definitions = maybe_sub_type.name, self.types.definitions
        return name in definitions.types and name != abstract_type.name and definitions.is_subtype(name, abstract_type.name)


class Schemas:
    """The schemas of all levels over one registry of search parameters, sharing their types."""

    def __init__(self, definitions: Definitions, registry: SearchRegistry) -> None:
        self.generation = registry.generation
        self._definitions, self._registry = definitions, registry
        more: dict[str, Callable[[], GraphQLNamedType]] = {
            "Query": lambda: self._root("Query", definitions.resource_types, self._queries),
            "Mutation": lambda: self._root("Mutation", definitions.resource_types, self._mutations),
        }
        for name in definitions.resource_types:
            more[f"{name}Connection"] = lambda name=name: self._connection(name)  # type: ignore[misc]
            more[f"{name}Edge"] = lambda name=name: self._edge(name)  # type: ignore[misc]
        self.types = FhirTypes(definitions, self._reverse, more)
        self.arguments = SearchArguments(registry, self.types)
        self._directives = _directives(self.types)
        self._schemas: dict[tuple[str, bool], FhirSchema] = {}
        self._referrers: dict[str, dict[str, tuple[list[str], bool]]] | None = None

    def of(self, type: str | None, instance: bool) -> FhirSchema:
        """The schema of a level: of the system (None), of a type, or of an instance of it."""
        at = (type or "", instance)
        if at not in self._schemas:
            self._schemas[at] = self._level(type, instance)
        return self._schemas[at]

    def _level(self, type: str | None, instance: bool) -> FhirSchema:
        if type is None:
            query, mutation = self.types["Query"], self.types["Mutation"]
        elif instance:
            query, mutation = self.types.of(type), None
        else:
            query, mutation = self._root("Query", (type,), self._queries), self._root("Mutation", (type,), self._mutations)
        return FhirSchema(self.types, query, mutation, self._directives)  # type: ignore[arg-type]

    def _root(self, name: str, types: tuple[str, ...], fields: Callable[[str], Fields]) -> FhirType:
        return FhirType(name, lambda: {field: made for type in types for field, made in fields(type).items()})

    def _queries(self, type: str) -> Fields:
        node, edges = self.types.of(type), self.types[f"{type}Connection"]
        id = {"id": GraphQLArgument(GraphQLNonNull(self.types["ID"]))}  # type: ignore[type-var,arg-type]
        arguments = self.arguments.of(type)
        return {
            type: FhirField(node, Role("single", type), id),
            f"{type}List": FhirField(GraphQLList(node), Role("list", type, True), arguments),
            f"{type}Connection": FhirField(edges, Role("connection", type), arguments | self.arguments.cursor()),
        }

    def _mutations(self, type: str) -> Fields:
        node: Any = self.types.of(type)
        text: Any = self.types["String"]
        id = {"id": GraphQLArgument(GraphQLNonNull(self.types["ID"]))}  # type: ignore[type-var,arg-type]
        content = {"res": GraphQLArgument(GraphQLNonNull(self.types[f"{type}Input"]))}  # type: ignore[type-var,arg-type]
        match = {"ifMatch": GraphQLArgument(text, description="The version that must be current, as in the header If-Match")}
        exist = {"ifNoneExist": GraphQLArgument(text, description="Search criteria, as in the header If-None-Exist")}
        return {
            f"{type}Create": FhirField(node, Role("create", type), content | exist),
            f"{type}Update": FhirField(node, Role("update", type), id | content | match),
            f"{type}Delete": FhirField(node, Role("delete", type), id | match, "Always null: a deletion returns nothing"),
        }

    def _connection(self, type: str) -> GraphQLObjectType:
        def fields() -> Fields:
            numbers: Fields = {name: FhirField(self.types["Int"], Role("own")) for name in ("count", "offset", "pagesize")}
            links: Fields = {name: FhirField(self.types["ID"], Role("own")) for name in ("first", "previous", "next", "last")}
            edge: Any = self.types[f"{type}Edge"]
            return numbers | links | {"edges": FhirField(GraphQLList(edge), Role("own", "", True))}

        return FhirType(f"{type}Connection", fields)

    def _edge(self, type: str) -> GraphQLObjectType:
        def fields() -> Fields:
            own: Fields = {"mode": FhirField(self.types["code"], Role("own")), "score": FhirField(self.types["decimal"], Role("own"))}
            return own | {"resource": FhirField(self.types.of(type), Role("own", type))}

        return FhirType(f"{type}Edge", fields)

    # --- what refers to a resource

    def _reverse(self, type: str) -> Fields:
        fields: Fields = {}
        for source, (codes, anywhere) in self._sources().get(type, {}).items():
            arguments = self.arguments.within(source, anywhere)
            node: Any = self.types.of(source)
            role = Role("list", source, True, tuple(codes))
            fields[f"{source}List"] = FhirField(GraphQLList(node), role, arguments)
            fields[f"{source}Connection"] = FhirField(
                self.types[f"{source}Connection"], Role("connection", source, False, tuple(codes)), arguments
            )
        return fields

    def _sources(self) -> dict[str, dict[str, tuple[list[str], bool]]]:
        """Type → types that may refer to it → (reference parameters, whether only ones that lead anywhere do)."""
        if self._referrers is not None:
            return self._referrers
        every = self._definitions.resource_types
        found: dict[str, dict[str, tuple[list[str], bool]]] = {type: {} for type in every}
        for source in every:
            for parameter in self._registry.of(source):
                if parameter.type != "reference":
                    continue
                anywhere = leads_anywhere(parameter)
                for target in every if anywhere else parameter.targets:
                    if target in found:
                        codes, all_so_far = found[target].get(source, ([], True))
                        found[target][source] = ([*codes, parameter.code], all_so_far and anywhere)
        self._referrers = found
        return found
