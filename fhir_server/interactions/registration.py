"""The one registration of what is served: from it follow routing, CapabilityStatement, OpenAPI, docs and authorization.

Specification: https://hl7.org/fhir/R4/http.html, https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fhir_server.interactions.http import Request, Response


@dataclass(frozen=True, slots=True)
class Operation:
    """A FHIR operation. One file declares one, as the module constant `OPERATION`; `plugins/shipped.py` collects them.

    `types`: resource types that it is defined on ('' = system level, '*' = every type).
    `levels` of {'system','type','instance','version'}; 'version' is below `_history/{vid}`, which only some operations have.
    `handler(context, request, type, id)`; `methods`: HTTP methods served; `definition`: canonical of its OperationDefinition,
    in which {type} stands for the resource type.
    `own_formats`: it looks at `Accept` and `_format` itself, or answers in one format of its own.
    `policy` names the right that the gate asks for; there is no default on purpose.
    """

    name: str
    handler: Callable[..., Awaitable[Response]]
    policy: str
    levels: frozenset[str]
    types: tuple[str, ...] = ("",)
    methods: tuple[str, ...] = ("GET", "POST")
    definition: str = ""
    title: str = ""
    affects_state: bool = False
    own_formats: bool = False


@dataclass(frozen=True, slots=True)
class Interaction:
    """A REST interaction as the CapabilityStatement and OpenAPI tell it.

    `code`: of http://hl7.org/fhir/restful-interaction; `level`: instance, type or system; `method` and `path` below the base.
    """

    code: str
    level: str
    method: str
    path: str
    title: str


INTERACTIONS = (
    Interaction("read", "instance", "GET", "{type}/{id}", "Current version"),
    Interaction("vread", "instance", "GET", "{type}/{id}/_history/{vid}", "One version"),
    Interaction("update", "instance", "PUT", "{type}/{id}", "Update, or create under this id"),
    Interaction("patch", "instance", "PATCH", "{type}/{id}", "Change parts"),
    Interaction("delete", "instance", "DELETE", "{type}/{id}", "Delete"),
    Interaction("history-instance", "instance", "GET", "{type}/{id}/_history", "All versions of a resource"),
    Interaction("history-type", "type", "GET", "{type}/_history", "All versions of a type"),
    Interaction("create", "type", "POST", "{type}", "Create under a new id"),
    Interaction("search-type", "type", "GET", "{type}", "Search"),
    Interaction("transaction", "system", "POST", "", "Transaction Bundle: all or nothing"),
    Interaction("batch", "system", "POST", "", "Batch Bundle: each entry by itself"),
    Interaction("search-system", "system", "GET", "", "Search over several types"),
    Interaction("history-system", "system", "GET", "_history", "All versions"),
)
"""What is served for every resource type, and for the system."""

FORMATS = ("application/fhir+json", "json", "application/fhir+xml", "xml")
PATCH_FORMATS = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/xml-patch+xml",
    "application/fhir+json",
    "application/fhir+xml",
)
COMPARTMENTS = ("Patient", "Encounter", "Practitioner", "RelatedPerson", "Device")


@dataclass(slots=True)
class Registry:
    """What is served, filled in `app.py`."""

    operations: dict[str, Operation] = field(default_factory=dict)

    def add(self, operation: Operation) -> None:
        """Declare an operation; a second one of the same name is a programming error."""
        if operation.name in self.operations:
            raise ValueError(f"operation ${operation.name} is declared twice")
        self.operations[operation.name] = operation


Handler = Callable[[Request], Awaitable[Response]]
