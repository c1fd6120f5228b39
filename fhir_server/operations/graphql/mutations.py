"""Create, update and delete as GraphQL mutations: one after the other, each an ordinary write interaction with all its checks.

Specification: https://hl7.org/fhir/R4/graphql.html#mutations, https://spec.graphql.org/October2021/#sec-Mutation
"""

from __future__ import annotations

from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.content import without_server_meta
from fhir_server.interactions.context import Context
from fhir_server.interactions.dispatch import plan
from fhir_server.interactions.http import Request
from fhir_server.interactions.ids import is_id
from fhir_server.interactions.plan import PlannedWrite, perform
from fhir_server.interactions.route import Route
from fhir_server.model import json_codec
from fhir_server.operations.graphql.execution import Execution, Output, Where
from fhir_server.operations.graphql.limits import Budget, refuse
from fhir_server.operations.graphql.plan import Planner, Step
from fhir_server.operations.graphql.reading import Reader
from fhir_server.operations.graphql.searches import Searches

_METHODS = {"create": "POST", "update": "PUT", "delete": "DELETE"}


def _without_nulls(value: Any) -> Any:
    """A member that is null is absent in FHIR; in a list null keeps the place of a primitive that has only extensions."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _content(step: Step) -> dict[str, Any]:
    """The resource of a create or update."""
    type = step.role.fhir
    content = {"resourceType": type, **_without_nulls(step.arguments["res"])}
    if step.role.kind == "update":
        content.setdefault("id", step.arguments["id"])
    return content


def _request(outer: Request, step: Step) -> tuple[Request, Route]:
    """The interaction that a field stands for. Raises FhirError 400."""
    type, kind = step.role.fhir, step.role.kind
    id = "" if kind == "create" else step.arguments["id"]
    if kind != "create" and not is_id(id):
        raise refuse(f"{step.name}(id:): '{id[:80]}' is not an id", f"{step.name}(id:)：“{id[:80]}”不是合法的 id", "value")
    headers = {}
    if step.arguments.get("ifMatch"):
        tag = step.arguments["ifMatch"]
        headers["if-match"] = tag if '"' in tag or tag == "*" else f'W/"{tag}"'
    if step.arguments.get("ifNoneExist"):
        headers["if-none-exist"] = step.arguments["ifNoneExist"].removeprefix(type).removeprefix("?")
    path = f"{type}/{id}" if id else type
    content = None if kind == "delete" else _content(step)
    request = Request(_METHODS[kind], path, "", headers, b"", outer.base, outer.principal, content)
    return request, Route(kind, type, id)


class Mutations:
    """The fields of one mutation. Each reads the state that those before it have made."""

    def __init__(self, context: Context, request: Request, planner: Planner, budget: Budget) -> None:
        self._context, self._request = context, request
        self._planner, self._budget = planner, budget

    async def _execution(self) -> Execution:
        reader = Reader(self._context, self._request, self._budget, await self._context.gate.snapshot())
        execution = Execution(self._planner, reader, self._budget)
        Searches(execution)
        return execution

    async def field(self, step: Step, out: Output) -> None:
        """Do one field. Raises FhirError; then nothing of this field has been written."""
        self._budget.resources(1)
        await self._budget.pause()
        request, to = _request(self._request, step)
        planned = await plan(self._context, request, to)
        if step.role.kind == "delete":
            await perform(self._context, request, planned)
            out[step.key] = None
            return
        await self._rehearse(step, planned)
        answer = await perform(self._context, request, planned)
        assert answer.stored is not None
        stored = await self._context.gate.leaving(request.principal, answer.stored)
        await self._show(await self._execution(), step, json_codec.loads(stored.body), out)

    async def _rehearse(self, step: Step, planned: PlannedWrite) -> None:
        """Answer the selection on what is about to be written: where that fails, nothing is to be written."""
        assert planned.resource is not None
        content = json_codec.loads(json_codec.dumps(planned.resource))
        without_server_meta(content)
        execution = await self._execution()
        execution.reader.seed(content)
        await self._show(execution, step, content, Output())

    async def _show(self, execution: Execution, step: Step, content: dict[str, Any], out: Output) -> None:
        await execution.prefetch([content], step.selections)
        await execution.values(step, [content], out, Where(content), False)
        if not step.shape.flatten:
            out.setdefault(step.key, {})


def check_single_use(request: Request) -> None:
    """Raise FhirError where a mutation may not be: by GET (405), or within a transaction (400)."""
    if request.method != "POST":
        text = "A mutation is sent by POST; GET only asks"
        raise FhirError.of(405, "not-supported", text, headers=[("Allow", "POST, OPTIONS")], zh="mutation 只能用 POST 发送；GET 只用于查询")
    if request.transaction:
        text = "A mutation changes data by itself and cannot be an entry of a transaction; send it alone or in a batch"
        raise FhirError.of(400, "not-supported", text, zh="mutation 会自行修改数据，不能作为事务的条目；请单独发送，或放在 batch 中")
