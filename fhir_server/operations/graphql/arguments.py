"""The arguments of searches: the search parameters of a type under GraphQL's names, and what of them leads to which resource.

Specification: https://hl7.org/fhir/R4/graphql.html#searching, #reverse
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from graphql import GraphQLArgument, GraphQLList, GraphQLNamedType, GraphQLNonNull

from fhir_server.operations.graphql.limits import refuse
from fhir_server.operations.graphql.scalars import plain_text
from fhir_server.search.parameters import Parameter
from fhir_server.search.parameters import Registry as SearchRegistry

_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*\Z", re.ASCII)
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")
_SCALARS = {"string": "String", "date": "date", "uri": "uri"}
_SHARED = {"_id": "token", "_lastUpdated": "date", "_list": "special", "_text": "String", "_content": "String", "_filter": "String"}
CURSORS = ("_cursor", "cursor")
"""Both names stand on FHIR's page."""
_OWN = frozenset({"fhirpath", "_count", "_reference", *CURSORS})
_ANY = 100
"""A parameter with more targets than this may lead anywhere."""


def leads_anywhere(parameter: Parameter) -> bool:
    """Whether a reference parameter has no particular targets."""
    return not parameter.targets or "Resource" in parameter.targets or len(parameter.targets) > _ANY


class SearchArguments:
    """The arguments of `<Type>List` and `<Type>Connection`, made once for each type."""

    def __init__(self, registry: SearchRegistry, types: Mapping[str, GraphQLNamedType]) -> None:
        self._registry, self._types = registry, types
        self.of = cache(self._of)
        self.common = cache(self._common)
        self.within = cache(self._within)

    def _list_of(self, scalar: str) -> GraphQLArgument:
        inner: Any = self._types[scalar]
        return GraphQLArgument(GraphQLList(inner))

    def _common(self) -> dict[str, GraphQLArgument]:
        """What every search takes."""
        return {
            "_filter": self._list_of("String"),
            "_sort": self._list_of("String"),
            "_count": GraphQLArgument(self._types["Int"]),  # type: ignore[arg-type]
            "fhirpath": GraphQLArgument(self._types["String"]),  # type: ignore[arg-type]
        }

    def _of(self, type: str) -> dict[str, GraphQLArgument]:
        """What a search of a type takes; '-' in a name of FHIR is '_' here."""
        found = {name: self._list_of(scalar) for name, scalar in _SHARED.items()}
        for parameter in (*self._registry.of("Resource"), *self._registry.of(type)):
            name = parameter.code.replace("-", "_")
            if _NAME.match(name) and not name.startswith("__"):
                found[name] = self._list_of(_SCALARS.get(parameter.type, parameter.type))
        return found | self.common()

    def _within(self, type: str, anywhere: bool) -> dict[str, GraphQLArgument]:
        """What a search within a resource takes. Where any resource may be referred to, `_filter` stands for the other parameters."""
        code: Any = self._types["code"]
        about = "The search parameter whose reference leads to the resource in focus"
        return {"_reference": GraphQLArgument(GraphQLNonNull(code), description=about)} | (self.common() if anywhere else self.of(type))

    def cursor(self) -> dict[str, GraphQLArgument]:
        """What a connection takes besides."""
        return {name: GraphQLArgument(self._types["ID"]) for name in CURSORS}  # type: ignore[arg-type]


def pairs_of(registry: SearchRegistry, type: str, arguments: Mapping[str, Any], focus: str | None = None) -> list[tuple[str, str]]:
    """The search that the arguments describe; values in an array are alternatives. `focus`: the resource that `_reference` leads to.

    Raises FhirError 400 for an empty list.
    """
    found: list[tuple[str, str]] = []
    if "_reference" in arguments and focus is not None:
        found.append((str(arguments["_reference"]), focus))
    codes = {parameter.code.replace("-", "_"): parameter.code for parameter in registry.of(type)}
    for name, value in arguments.items():
        if name in _OWN or value is None:
            continue
        texts = [plain_text(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
        if not texts or "" in texts:
            raise refuse(f"{type}List({name}:): a search parameter needs a value", f"{type}List({name}:)：检索参数需要一个值", "value")
        if name == "_filter":
            joined = " or ".join(f"({one})" for one in texts) if len(texts) > 1 else texts[0]
        elif name == "_sort":
            joined = ",".join(codes_of_sort(one, codes) for one in texts)
        else:
            joined = ",".join(_UNESCAPED_COMMA.sub(r"\\,", one) for one in texts)
        found.append((codes.get(name, name), joined))
    return found


def codes_of_sort(text: str, codes: Mapping[str, str]) -> str:
    """Sort keys in FHIR's names: `-birth_date` may be written as the argument is."""
    keys = []
    for part in text.split(","):
        sign, name = ("-", part.strip()[1:]) if part.strip().startswith("-") else ("", part.strip())
        keys.append(sign + codes.get(name, name))
    return ",".join(keys)
