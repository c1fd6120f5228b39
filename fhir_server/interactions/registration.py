"""The one registration of what is served: from it follow routing, CapabilityStatement, OpenAPI, docs and authorization.

Specification: https://hl7.org/fhir/R4/http.html, https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fhir_server.interactions.http import Request, Response


@dataclass(frozen=True, slots=True)
class Operation:
    """A FHIR operation. One file declares one, as the module constant `OPERATION`; `app.py` collects them.

    `types`: resource types that it is defined on ('' = system level, '*' = every type); `levels` of {'system','type','instance'}.
    `handler(context, request, type, id)`; `methods`: HTTP methods served; `definition`: canonical of its OperationDefinition.
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
