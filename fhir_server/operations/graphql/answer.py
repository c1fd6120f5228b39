"""The answer to $graphql: `data`, or `errors` each with its OperationOutcome under the HTTP status of the first.

Specification: https://hl7.org/fhir/R4/graphql.html#errors, https://spec.graphql.org/October2021/#sec-Response
"""

from __future__ import annotations

import base64
from typing import Any

from graphql import GraphQLObjectType, OperationType
from graphql.execution.values import VariableValues
from graphql.language import ast

from fhir_server.errors import FhirError, operation_outcome
from fhir_server.interactions.context import Context
from fhir_server.interactions.errors import wants_chinese
from fhir_server.interactions.http import Request, Response
from fhir_server.interactions.read import gone, unknown
from fhir_server.model import json_codec
from fhir_server.operations.graphql.execution import Execution, Output, Where
from fhir_server.operations.graphql.introspection import Introspection
from fhir_server.operations.graphql.limits import Budget, check_document
from fhir_server.operations.graphql.mutations import Mutations, check_single_use
from fhir_server.operations.graphql.plan import Planner, Selections, Step, variables_of
from fhir_server.operations.graphql.question import Question, document_of, fragments_of, operation_of, question_of
from fhir_server.operations.graphql.reading import Reader
from fhir_server.operations.graphql.rules import check
from fhir_server.operations.graphql.schema import FhirSchema, Schemas
from fhir_server.operations.graphql.searches import Searches

_JSON = "application/json; charset=utf-8"
_PART = "graphql"
Fault = tuple[FhirError, Step | None]


def _schema(context: Context, type: str | None, instance: bool) -> FhirSchema:
    """The schema of a level; made anew when the search parameters of the site have changed."""
    schemas: Schemas | None = context.parts.get(_PART)
    if schemas is None or schemas.generation != context.search.generation:
        schemas = context.parts[_PART] = Schemas(context.definitions, context.search)
    return schemas.of(type, instance)


class _Run:
    """One operation, checked and planned."""

    def __init__(self, context: Context, request: Request, asked: Question, type: str | None, id: str | None) -> None:
        self._context, self._request = context, request
        document = document_of(asked.query)
        check_document(document)
        self.operation: ast.OperationDefinitionNode = operation_of(document, asked.operation)
        self.changes = self.operation.operation is OperationType.MUTATION
        if self.changes:
            check_single_use(request)
            if id is not None:
                text = "A mutation is sent to [base]/$graphql or [base]/[type]/$graphql, not to an instance"
                raise FhirError.of(
                    400, "not-supported", text, zh="mutation 应发送到 [base]/$graphql 或 [base]/[type]/$graphql，而不是某个实例"
                )
        schema = _schema(context, type, id is not None)
        check(schema, document)
        variables: VariableValues = variables_of(schema, self.operation, asked.variables)
        self.budget = Budget()
        self.planner = Planner(schema, fragments_of(document), variables, self.budget)
        self.root: GraphQLObjectType = schema.get_root_type(self.operation.operation)  # type: ignore[assignment]
        self.selections: Selections = tuple(self.operation.selection_set.selections)
        self.planner.check(self.root, self.selections)

    async def _execution(self) -> Execution:
        reader = Reader(self._context, self._request, self.budget, await self._context.gate.snapshot())
        execution = Execution(self.planner, reader, self.budget)
        Searches(execution)
        return execution

    async def _meta(self, step: Step, out: Output) -> bool:
        """Fields that every root has."""
        if step.name == "__typename":
            out[step.key] = self.root.name
        elif step.name in ("__schema", "__type"):
            out[step.key] = await Introspection(self.planner, self.budget).answer(step)
        else:
            return False
        return True

    async def on_instance(self, type: str, id: str) -> Output:
        """The selected fields of one resource. Raises FhirError 404, 410."""
        gate, principal = self._context.gate, self._request.principal
        gate.require(principal, "read")
        stored = await gate.read(principal, type, id)
        if stored is None:
            raise unknown(type, id)
        if stored.deleted:
            raise gone(stored)
        content = json_codec.loads(stored.body)
        execution = await self._execution()
        await execution.prefetch([content], self.selections)
        out = Output()
        execution.meta = self._meta
        await execution.select(execution.type_of(content), content, self.selections, out, Where(content))
        return out

    async def on_root(self) -> Output:
        """Searches over the system or one type."""
        out = Output()
        execution = await self._execution()
        assert execution.searches is not None
        for step in self.planner.steps(self.root, self.selections):
            if not await self._meta(step, out):
                await execution.searches.root(step, out)
        return out

    async def mutate(self) -> tuple[Output, list[Fault]]:
        """The fields of a mutation in their order; one that fails is null, and those after it are done all the same."""
        out = Output()
        faults: list[Fault] = []
        mutations = Mutations(self._context, self._request, self.planner, self.budget)
        for step in self.planner.steps(self.root, self.selections):
            try:
                if not await self._meta(step, out):
                    await mutations.field(step, out)
            except FhirError as fault:
                out[step.key] = None
                faults.append((fault, step))
        return out, faults


def _error(request: Request, fault: FhirError, step: Step | None) -> dict[str, Any]:
    outcome = operation_outcome(fault.issues, chinese=wants_chinese(request.headers))
    error: dict[str, Any] = {"message": "; ".join(issue.diagnostics for issue in fault.issues)}
    if step is not None:
        error["path"] = [step.key]
        if step.node.loc is not None:
            place = step.node.loc.source.get_location(step.node.loc.start)
            error["locations"] = [{"line": place.line, "column": place.column}]
    return error | {"extensions": {"resource": outcome}}


def _in_entry(data: Any, faults: list[Fault]) -> Response:
    """In a Bundle only resources can be answered: the Binary that the operation's definition names. Raises FhirError."""
    if faults:
        raise FhirError(faults[0][0].status, [issue for fault, _ in faults for issue in fault.issues], faults[0][0].headers)
    content = base64.b64encode(json_codec.dumps({"data": data})).decode()
    return Response(200, json_codec.dumps({"resourceType": "Binary", "contentType": "application/json", "data": content}))


def _response(request: Request, data: Any, faults: list[Fault]) -> Response:
    if request.entry:
        return _in_entry(data, faults)
    if not faults:
        return Response(200, json_codec.dumps({"data": data}), media_type=_JSON)
    content: dict[str, Any] = {"errors": [_error(request, *one) for one in faults], "data": data}
    first = faults[0][0]
    return Response(first.status, json_codec.dumps(content), first.headers if len(faults) == 1 else [], media_type=_JSON)


async def answer(context: Context, request: Request, type: str | None, id: str | None) -> Response:
    """200 with `data`; a fault is `errors` under its own status. Raises FhirError in an entry of a Bundle."""
    try:
        run = _Run(context, request, question_of(request), type, id)
        if run.changes:
            return _response(request, *await run.mutate())
        return _response(request, await run.on_instance(type, id) if type and id else await run.on_root(), [])
    except FhirError as fault:
        return _response(request, None, [(fault, None)])
