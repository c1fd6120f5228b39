"""Hooks at the gate, without a server: who is asked about what, who is told, and what the server's own work is spared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_server.auth.gate import ALL_SEEING, Gate
from fhir_server.auth.hooks import ByType, Committed, Hook, Leaving, Writing
from fhir_server.errors import FhirError
from fhir_server.model.definitions import definitions
from fhir_server.plugins import Plugin, Plugins
from fhir_server.search.indexer import Indexer
from fhir_server.search.parameters import Registry
from fhir_server.search.query import Everything, Ids, Query
from fhir_server.storage.port import Effects, Facts, Purge, Stored, Unit, Write
from fhir_server.storage.sqlite.store import SqliteStore

REGISTRY = Registry(definitions())
Resource = dict[str, Any]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    index = Indexer(REGISTRY, ZoneInfo("Asia/Shanghai")).index
    made = SqliteStore(tmp_path, index=index, type_names=definitions().resource_types)
    await made.open()
    yield made
    await made.close()


def gate_of(store: SqliteStore, *plugins: Plugin) -> Gate:
    registry = Plugins(definitions().resource_types)
    for number, one in enumerate(plugins):
        registry.ship(f"p{number}", one)
    return Gate(store, hooks=registry.hooks)


def basic(id: str, text: str = "x") -> Resource:
    return {"resourceType": "Basic", "id": id, "code": {"text": text}}


def put(id: str, text: str = "x") -> Unit:
    return Unit.of(Write("PUT", "Basic", id, basic(id, text)))


class Recorder(Plugin):
    """Keeps what it is asked and told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.told: list[list[tuple[str, int]]] = []
        self.left: list[str] = []

    def before_write(self, writing: Writing) -> None:
        texts = [one and one["code"]["text"] for one in (writing.previous, writing.resource)]
        self.asked.append((writing.interaction, writing.id, *texts))

    def after_commit(self, commit: Committed) -> None:
        self.told.append([(stored.id, stored.version) for stored in commit.versions])

    def before_answer(self, leaving: Leaving) -> Resource:
        self.left.append(leaving.stored.id)
        return {**leaving.resource, "code": {"text": "masked"}}


async def test_a_write_is_asked_about_with_what_it_replaces(store: SqliteStore) -> None:
    recorder = Recorder()
    gate = gate_of(store, recorder)
    await gate.transact(ALL_SEEING, put("a", "one"))

    def change(facts: Facts) -> Effects:
        return Effects([Write("PATCH", "Basic", "a", basic("a", "two"))])

    await gate.transact(ALL_SEEING, Unit(change, targets=[("Basic", "a")]))
    await gate.transact(ALL_SEEING, Unit(lambda facts: Effects([Write("DELETE", "Basic", "a")]), targets=[("Basic", "a")]))
    assert recorder.asked == [("update", "a", None, "one"), ("patch", "a", "one", "two"), ("delete", "a", "two", None)]


async def test_commits_are_told_once_and_only_with_new_versions(store: SqliteStore) -> None:
    recorder = Recorder()
    gate = gate_of(store, recorder)
    await gate.transact(ALL_SEEING, Unit.of(*[Write("PUT", "Basic", id, basic(id)) for id in "ab"]))
    await gate.transact(ALL_SEEING, put("a"))  # the same content
    with pytest.raises(FhirError):
        await gate.transact(ALL_SEEING, Unit.of(Write("PUT", "Basic", "a", basic("a", "y"), if_match=7)))
    await gate.transact(ALL_SEEING, Unit.of(Write("DELETE", "Basic", "a")))
    assert recorder.told == [[("a", 1), ("b", 1)], [("a", 2)]]


async def test_the_servers_own_work_is_told_of_but_not_asked_about(store: SqliteStore) -> None:
    recorder = Recorder()
    gate = gate_of(store, recorder)
    await gate.own().transact(ALL_SEEING, put("a"))
    assert (recorder.asked, recorder.told) == ([], [[("a", 1)]])
    stored = await gate.own().read(ALL_SEEING, "Basic", "a")
    assert stored is not None and b"masked" not in stored.body
    assert gate.own().outer is gate and gate.own().own().outer is gate and gate.outer is gate


async def test_every_way_out_of_the_gate_is_asked(store: SqliteStore) -> None:
    recorder = Recorder()
    gate = gate_of(store, recorder)
    await gate.transact(ALL_SEEING, put("a"))
    for face in (gate, gate.at(await gate.snapshot())):
        found: list[Stored | None] = [
            await face.read(ALL_SEEING, "Basic", "a"),
            await face.read_version(ALL_SEEING, "Basic", "a", 1),
            *await face.read_many(ALL_SEEING, [("Basic", "a")]),
            *(await face.search(ALL_SEEING, Query(("Basic",)))).items,
            *(await face.history(ALL_SEEING, "Basic", "a")).items,
            *await face.changes(ALL_SEEING, 0),
        ]
        assert len(found) == 6
        assert all(one is not None and b'"masked"' in one.body for one in found)


async def test_what_is_masked_in_place_does_not_leave(store: SqliteStore) -> None:
    class InPlace(Plugin):
        def before_answer(self, leaving: Leaving) -> None:
            leaving.resource["code"]["text"] = "masked"

    gate = gate_of(store, InPlace())
    await gate.transact(ALL_SEEING, put("a", "secret"))
    stored = await gate.read(ALL_SEEING, "Basic", "a")
    assert stored is not None and b'"masked"' in stored.body and b"secret" not in stored.body


async def test_deletions_leave_unasked(store: SqliteStore) -> None:
    recorder = Recorder()
    gate = gate_of(store, recorder)
    await gate.transact(ALL_SEEING, put("a"))
    await gate.transact(ALL_SEEING, Unit.of(Write("DELETE", "Basic", "a")))
    stored = await gate.read(ALL_SEEING, "Basic", "a")
    assert stored is not None and stored.deleted and recorder.left == []


async def test_a_hook_that_reads_and_writes_through_its_view_is_not_asked_again(store: SqliteStore) -> None:
    class Nested(Plugin):
        async def before_answer(self, leaving: Leaving) -> None:
            assert await leaving.view.gate.read(leaving.view.principal, "Basic", "a") is not None

        async def before_write(self, writing: Writing) -> None:
            if writing.id != "log":
                await writing.view.gate.transact(writing.view.principal, put("log"))

    gate = gate_of(store, Nested())
    await gate.transact(ALL_SEEING, put("a"))
    assert await gate.read(ALL_SEEING, "Basic", "a") is not None
    assert await gate.read(ALL_SEEING, "Basic", "log") is not None


async def test_what_was_approved_is_what_is_written(store: SqliteStore) -> None:
    """Another changes the resource while the hook waits: the hook is asked about the new state, and decides on that."""
    seen: list[str] = []

    class Slow(Plugin):
        before_write_types = ("Basic",)

        async def before_write(self, writing: Writing) -> None:
            assert writing.previous is not None
            before = writing.previous["code"]["text"]
            seen.append(before)
            if before == "one":
                await store.transact(put("a", "closed"))
            if before == "closed":
                raise FhirError.of(403, "forbidden", "it is closed")

    await store.transact(put("a", "one"))
    gate = gate_of(store, Slow())
    with pytest.raises(FhirError) as refused:
        await gate.transact(
            ALL_SEEING, Unit(lambda facts: Effects([Write("PUT", "Basic", "a", basic("a", "two"))]), targets=[("Basic", "a")])
        )
    assert (refused.value.status, seen) == (403, ["one", "closed"])
    stored = await store.read("Basic", "a")
    assert stored is not None and stored.version == 2


def test_hooks_are_found_by_type_in_the_order_in_which_they_came() -> None:
    hooks = ByType()
    assert not hooks.any and hooks.of("Patient") == ()
    for name, types in (("a", ["Patient"]), ("b", ["*"]), ("c", ["Patient", "Basic"])):
        hooks.add(Hook(name, "before_write", print), types)
    assert ["".join(one.plugin for one in hooks.of(type)) for type in ("Patient", "Basic", "Task")] == ["abc", "bc", "b"]


class Hold(Recorder):
    """A legal hold on one resource."""

    def before_write(self, writing: Writing) -> None:
        super().before_write(writing)
        if (writing.interaction, writing.id) == ("delete", "held"):
            raise FhirError.of(422, "business-rule", "held by the court")


async def test_a_purge_is_asked_about_for_each_resource_and_told(store: SqliteStore) -> None:
    hold = Hold()
    gate = gate_of(store, hold)
    for id in ("a", "b", "held"):
        await gate.transact(ALL_SEEING, put(id))
    members = Query(("Basic",), Everything())
    asked = Purge([("Basic", "a")], lambda resources: Write("POST", "AuditEvent", "e", {"resourceType": "AuditEvent", "id": "e"}), members)
    with pytest.raises(FhirError, match="held by the court"):
        await gate.purge(ALL_SEEING, asked)
    assert None not in [await store.read_version("Basic", id, 1) for id in ("a", "b", "held")]
    assert await store.read("AuditEvent", "e") is None
    hold.told.clear()
    await gate.purge(ALL_SEEING, replace(asked, spared=lambda resource: resource["id"] == "held", members=Query(("Basic",), Ids(("b",)))))
    assert hold.told == [[("e", 1), ("a", 2), ("b", 2)]]
    assert await store.read_version("Basic", "b", 1) is None and await store.read_version("Basic", "held", 1)
