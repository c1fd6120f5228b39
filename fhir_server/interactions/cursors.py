"""Paging links: where a page ended, signed and bound to its search or history.

Specification: https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.search.cursor import fingerprint, sign, verify
from fhir_server.search.query import Position


def token_for(context: Context, scope: str, position: Position) -> str:
    """The value of `_cursor`. `scope` says what it belongs to; the total that the first page knew travels with it."""
    expires = context.clock() + context.settings.cursor_seconds * 1000
    return sign(position._replace(values=(position.total, *position.values)), fingerprint(scope), context.secret, expires)


def position_of(context: Context, scope: str, token: str) -> Position:
    """The position of a `_cursor`. Raises FhirError 400 (changed, or of another search), 410 (expired)."""
    position = verify(token, fingerprint(scope), context.secret, context.clock())
    return position._replace(values=position.values[1:], total=position.values[0])
