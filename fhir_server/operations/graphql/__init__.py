"""$graphql: GraphQL on one resource, on the resources of one type, or on the whole system.

Specification: https://hl7.org/fhir/R4/graphql.html, https://spec.graphql.org/October2021/
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.registration import Operation


async def graphql(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with `data`; a fault is `errors` under its own status."""
    # The GraphQL library is loaded with the first query, not at the start.
    from fhir_server.operations.graphql.answer import answer

    return await answer(context, request, type, id)


OPERATION = Operation(
    name="graphql",
    handler=graphql,
    policy="graphql",
    levels=frozenset({"system", "type", "instance"}),
    types=("", "*"),
    definition="http://hl7.org/fhir/OperationDefinition/Resource-graphql",
    title="A GraphQL query",
    own_formats=True,
)
"""Mutations are refused in transactions by the operation itself, so that queries can be entries (`affects_state` stands for all)."""
