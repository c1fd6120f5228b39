"""The GraphQL types of FHIR's resources and datatypes, each made from the definitions when it is first asked for.

Specification: https://hl7.org/fhir/R4/graphql.html#fields, #list, #references
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
)
from graphql.type import introspection_types

from fhir_server.model.definitions import Definitions
from fhir_server.operations.graphql.scalars import scalar_of, scalars

NAVIGATION = ("fhirpath", "_offset", "_count")
"""Arguments of every complex field."""
Fields = dict[str, GraphQLField]


class Role(NamedTuple):
    """What a field gives. `kind`: primitive, complex, type, resource, single, list, connection, create, update, delete or own.

    `fhir`: the FHIR type of its value, or the resource type that it is about; `many`: whether the element repeats.
    `reverse`: a list or connection of what refers to the resource it stands on, by these reference parameters.
    """

    kind: str
    fhir: str = ""
    many: bool = False
    reverse: tuple[str, ...] = ()


class FhirField(GraphQLField):
    """A field that knows its role."""

    role: Role

    def __init__(self, type: Any, role: Role, args: dict[str, GraphQLArgument] | None = None, description: str | None = None) -> None:
        super().__init__(type, args, description=description)
        self.role = role


class FhirType(GraphQLObjectType):
    """An object type; `fhir` is its FHIR type ('' for connections and roots)."""

    fhir: str

    def __init__(self, name: str, fields: Callable[[], Fields], fhir: str = "", interfaces: Callable[[], list[Any]] | None = None) -> None:
        super().__init__(name, fields, interfaces)
        self.fhir = fhir


def graphql_name(fhir: str) -> str:
    """'Patient.contact' → 'PatientContact'; backbones that are called input get '_Input', for the input types end that way."""
    if fhir == "Element":
        return "ElementBase"
    first, *rest = fhir.split(".")
    name = first + "".join(part[0].upper() + part[1:] for part in rest)
    return name[:-5] + "_Input" if rest and name.endswith("Input") else name


class FhirTypes(Mapping[str, GraphQLNamedType]):
    """All types of the schema by name, built on first use. `more` gives those that are not of FHIR's definitions (roots, connections).

    `reverse(type)`: the fields of a resource that list what refers to it.
    """

    def __init__(
        self, definitions: Definitions, reverse: Callable[[str], Fields], more: Mapping[str, Callable[[], GraphQLNamedType]]
    ) -> None:
        self.definitions, self._reverse = definitions, reverse
        self._built: dict[str, GraphQLNamedType] = {**scalars(), **introspection_types}
        self._makers: dict[str, Callable[[], GraphQLNamedType]] = dict(more)
        for name in ("Resource", "DomainResource"):
            self._makers[name] = lambda name=name: self._interface(name)  # type: ignore[misc]
        known = definitions.types
        for fhir in known:
            if known.kind(fhir) == "primitive" or fhir in ("Resource", "DomainResource", "BackboneElement"):
                continue
            name = graphql_name(fhir)
            self._makers[name] = lambda fhir=fhir, name=name: self._object(fhir, name)  # type: ignore[misc]
            self._makers[name + "Input"] = lambda fhir=fhir, name=name: self._input(fhir, name + "Input")  # type: ignore[misc]
        self._navigation: dict[str, dict[str, GraphQLArgument]] = {}

    def __getitem__(self, name: str) -> GraphQLNamedType:
        built = self._built.get(name)
        if built is None:
            built = self._built[name] = self._makers[name]()
        return built

    def __contains__(self, name: object) -> bool:
        return name in self._built or name in self._makers

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self._makers, *self._built))

    def __len__(self) -> int:
        return len(set(self._makers) | set(self._built))

    def of(self, fhir: str) -> FhirType:
        """The object type of a FHIR type."""
        found = self[graphql_name(fhir)]
        assert isinstance(found, FhirType)
        return found

    # --- output

    def _object(self, fhir: str, name: str) -> FhirType:
        def interfaces() -> list[Any]:
            if self.definitions.types.kind(fhir) != "resource":
                return []
            names = ["Resource", "DomainResource"] if self.definitions.is_subtype(fhir, "DomainResource") else ["Resource"]
            return [self[one] for one in names]

        return FhirType(name, lambda: self._fields(fhir), fhir, interfaces)

    def _interface(self, name: str) -> GraphQLInterfaceType:
        def fields() -> Fields:
            return self._elements(name) | self._meta(name)

        return GraphQLInterfaceType(name, fields, lambda: [self["Resource"]] if name == "DomainResource" else [])  # type: ignore[arg-type,list-item]

    def _fields(self, fhir: str) -> Fields:
        fields = self._elements(fhir)
        if fhir == "Reference":
            about = "The resource that the reference leads to"
            fields["resource"] = FhirField(self["Resource"], Role("resource"), self._resolving(), about)
        if self.definitions.types.kind(fhir) == "resource":
            fields |= self._meta(fhir)
            fields |= self._reverse(fhir)
        return fields

    def _meta(self, fhir: str) -> Fields:
        return {"resourceType": FhirField(GraphQLNonNull(self["code"]), Role("type", fhir))}  # type: ignore[type-var]

    def _resolving(self) -> dict[str, GraphQLArgument]:
        optional: Any = self["Boolean"]
        return {
            "optional": GraphQLArgument(optional, description="Leave out what cannot be resolved, instead of an error"),
            "type": GraphQLArgument(GraphQLList(self["code"]), description="Only resources of these types"),  # type: ignore[type-var]
        }

    def _elements(self, fhir: str) -> Fields:
        known = self.definitions.types
        fields: Fields = {}
        for name, (element, inner) in known[fhir].by_json.items():
            many = element.max != 1
            if known.kind(inner) != "primitive":
                target: Any = self["Resource" if inner == "Resource" else graphql_name(inner)]
                role = Role("complex", inner, many)
                fields[name] = FhirField(GraphQLList(target) if many else target, role, self.navigation(inner))
                continue
            scalar: Any = self["ID" if name == "id" and known.kind(fhir) == "resource" else scalar_of(inner)]
            fields[name] = FhirField(GraphQLList(scalar) if many else scalar, Role("primitive", inner, many))
            if name != "id" and inner != "xhtml":
                beside: Any = self["ElementBase"]
                role = Role("complex", "Element", many)
                fields["_" + name] = FhirField(GraphQLList(beside) if many else beside, role, self.navigation("Element"))
        return fields

    def navigation(self, fhir: str) -> dict[str, GraphQLArgument]:
        """The arguments that choose among the values of a complex field of this type."""
        arguments = self._navigation.get(fhir)
        if arguments is None:
            whole: Any = self["Int"]
            text: Any = self["String"]
            arguments = {"fhirpath": GraphQLArgument(text), "_offset": GraphQLArgument(whole), "_count": GraphQLArgument(whole)}
            for name, (_, inner) in self.definitions.types[fhir].by_json.items():
                if self.definitions.types.kind(inner) == "primitive":
                    scalar: Any = self[scalar_of(inner)]
                    arguments[name] = GraphQLArgument(scalar)
            self._navigation[fhir] = arguments
        return arguments

    # --- input

    def _input(self, fhir: str, name: str) -> GraphQLInputObjectType:
        return GraphQLInputObjectType(name, lambda: self._inputs(fhir))

    def _inputs(self, fhir: str) -> dict[str, GraphQLInputField]:
        known = self.definitions.types
        fields: dict[str, GraphQLInputField] = {}
        if known.kind(fhir) == "resource":
            fields["resourceType"] = GraphQLInputField(self["code"])  # type: ignore[arg-type]
        for name, (element, inner) in known[fhir].by_json.items():
            primitive = known.kind(inner) == "primitive"
            named: Any = self[scalar_of(inner) if primitive else "ResourceInput" if inner == "Resource" else graphql_name(inner) + "Input"]
            fields[name] = GraphQLInputField(GraphQLList(named) if element.max != 1 else named)
            if primitive and name != "id" and inner != "xhtml":
                beside: Any = self["ElementBaseInput"]
                fields["_" + name] = GraphQLInputField(GraphQLList(beside) if element.max != 1 else beside)
        return fields
