"""What a request searches for: the parser with this request's scope, and the criteria of conditional interactions.

Specification: https://hl7.org/fhir/R4/http.html#cond-update, #ccreate, #3.1.0.7.1
"""

from __future__ import annotations

from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.http import Request
from fhir_server.interactions.query_string import FORMATTING, encoded, pairs
from fhir_server.search.parser import Parser
from fhir_server.search.query import Query
from fhir_server.search.values_of import Scope


def parser_of(context: Context, request: Request) -> Parser:
    """A parser that knows the time and under which addresses this server is reached."""
    return Parser(context.search, Scope(context.zone, context.clock(), (request.base, *context.own_bases)))


def without_presentation(query: str) -> list[tuple[str, str]]:
    """The pairs of a query string but those about the form of the answer."""
    return [(name, value) for name, value in pairs(query) if name not in FORMATTING]


def conditional_query(context: Context, request: Request, type: str, text: str) -> Query:
    """The criteria of a conditional interaction as a query of at most two matches.

    Unknown parameters are errors under lenient handling too: ignoring one would change other resources than were meant.
    Raises FhirError 400, and 412 where nothing selects.
    """
    text = text.strip().removeprefix(f"{type}?").removeprefix("?")
    filters = without_presentation(text)
    if not filters:
        raise FhirError.of(
            412,
            "required",
            f"The criteria '{text[:200]}' for {type} select nothing; at least one search parameter is needed",
            zh=f"{type} 的条件“{text[:200]}”没有检索参数，至少需要一个",
        )
    return parser_of(context, request).criteria(type, encoded(filters))
