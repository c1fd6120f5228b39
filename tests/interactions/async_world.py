"""A server's parts without HTTP, for tests of asynchronous requests: jobs run when `settle` is called, the clock stands until it is set."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import subscriptions
from fhir_server.auth.gate import ALL_SEEING, Gate, Principal
from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.interactions.dispatch import dispatch
from fhir_server.interactions.errors import render
from fhir_server.interactions.http import Request, Response
from fhir_server.model.definitions import definitions
from fhir_server.plugins import Plugins, shipped
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry
from fhir_server.settings import Settings
from fhir_server.storage.port import Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore
from subscriptions.jobs.clock import VirtualClock, at
from tests.interactions.bundles import entry, patient

BASE = "http://fhir.example.org/fhir"
NOW = at("2026-03-02T08:00:00+08:00")
REGISTRY = Registry(definitions())
ASYNC = {"prefer": "respond-async"}
LI, WANG = Principal("li"), Principal("wang")


@dataclass
class World:
    store: SqliteStore
    context: Context
    room: subscriptions.Running
    clock: VirtualClock

    async def ask(
        self, method: str, url: str, content: Any = None, *, principal: Principal = ALL_SEEING, headers: dict[str, str] | None = None
    ) -> Response:
        """The answer to a request, also where it is an error."""
        path, _, query = url.removeprefix(BASE).lstrip("/").partition("?")
        sent = {"content-type": "application/fhir+json", **(headers or {})}
        body = content if isinstance(content, bytes) else json.dumps(content).encode() if content is not None else b""
        try:
            return await dispatch(self.context, Request(method, path, query, sent, body, BASE, principal))
        except FhirError as fault:
            return render(fault, sent)

    async def begin(self, method: str, url: str, content: Any = None, *, principal: Principal = ALL_SEEING, **headers: str) -> str:
        """Kick a request off; its status address."""
        answer = await self.ask(method, url, content, principal=principal, headers={**ASYNC, **headers})
        assert answer.status == 202, answer.body
        return dict(answer.headers)["Content-Location"]

    async def outcome(self, address: str, **more: Any) -> dict[str, Any]:
        """The one entry of a finished request."""
        answer = await self.ask("GET", address, **more)
        assert answer.status == 200, answer.body
        bundle = json.loads(answer.body)
        assert (bundle["resourceType"], bundle["type"], len(bundle["entry"])) == ("Bundle", "batch-response", 1)
        found: dict[str, Any] = bundle["entry"][0]
        return found

    async def settle(self) -> None:
        await self.room.jobs.settle()

    async def put(self, *resources: dict[str, Any]) -> None:
        await self.store.transact(Unit.of(*(Write("PUT", one["resourceType"], one["id"], one) for one in resources)))

    async def patients(self) -> list[str]:
        """The values of the identifiers of all Patients, in order."""
        changes = await self.store.changes(0, 100_000)
        return sorted(one["value"] for each in changes if each.type == "Patient" for one in json.loads(each.body)["identifier"])

    def kept(self) -> list[tuple[str, str]]:
        """What is kept of asynchronous requests."""
        return list(self.store._db.execute("SELECT collection, key FROM record WHERE collection LIKE 'async.%'"))


def status(address: str) -> str:
    """The path of a status address below the base."""
    assert address.startswith(BASE + "/$async-status/")
    return address.removeprefix(BASE + "/")


@asynccontextmanager
async def world(folder: Path, **settings: Any):
    """The parts over a store in `folder`; no runner is at work."""
    zone, clock = ZoneInfo("Asia/Shanghai"), VirtualClock(NOW)
    indexer = Indexer(REGISTRY, zone)
    store = SqliteStore(folder, index=indexer.index, type_names=definitions().resource_types)
    await store.open()
    plugins = Plugins(definitions().resource_types)
    plugins.ship("operations", shipped.Operations())
    context = Context(Gate(store), definitions(), REGISTRY, plugins.operations, Settings(**settings), b"s" * 32, zone, clock)
    context.own_bases = (BASE,)
    context.parts["store"] = store
    room = subscriptions.build(context, store, indexer, [], environment={})
    try:
        yield World(store, context, room, clock)
    finally:
        await room.stop(grace=0.5)
        await store.close()


def posts(number: int) -> list[dict[str, Any]]:
    return [entry("POST", "Patient", patient(f"v{n:04}")) for n in range(number)]


def numbered(number: int) -> list[dict[str, Any]]:
    return [patient(f"v{n:04}", id=f"p{n:04}", active=True) for n in range(number)]


def outcome_of(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The issue of an error answer."""
    assert answer.status == status, (answer.status, answer.body)
    said = json.loads(answer.body)
    assert said["resourceType"] == "OperationOutcome" and said["issue"][0]["code"] == code
    issue: dict[str, Any] = said["issue"][0]
    return issue
