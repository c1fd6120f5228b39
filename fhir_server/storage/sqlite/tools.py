"""What a writer is given: the rules of the index, the codecs, and what the store knows about types."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fhir_server.search.parameters import Definition
from fhir_server.search.query import Query
from fhir_server.search.values import IndexValues
from fhir_server.storage.body import BodyCodec

Index = Callable[[dict[str, Any]], IndexValues]
Part = tuple[Collection[int], Index]
"""Numbers of parameters, and the function that gives the index values of these."""


@dataclass(slots=True)
class Tools:
    """What a writer needs besides the database."""

    index: Index
    part: Callable[[str, frozenset[str]], Part] | None
    """(type, members) → the part of the index that these members of a resource decide; None: not known."""
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], dict[str, Any]]
    codec: BodyCodec
    types: Mapping[str, int]
    clinical: Mapping[str, int]
    uncounted: Collection[int]
    """Parameters whose terms are not counted (patient-code keys)."""
    clock: Callable[[], int]
    match: Callable[[sqlite3.Connection, Query], list[tuple[str, str]]]
    """(type, id) of at most two current resources that meet the query, as the write transaction sees them."""
    renew: Callable[[sqlite3.Connection, int], None] = lambda db, generation: None
    """Index by the parameters of this generation from now on."""
    wanted: Callable[[dict[str, Any]], list[Definition]] | None = None
    """What a SearchParameter asks for; None: the site cannot define any."""
    known: Callable[[], Collection[int]] = frozenset
    """Numbers of the site's parameters by which `index` works now."""
