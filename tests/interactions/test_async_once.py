"""Asynchronous requests happen once: interrupted, taken up again, cancelled, expired.

Specification: https://hl7.org/fhir/R5/async-bundle.html#delete-request, https://hl7.org/fhir/R4/http.html#trules
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from fhir_server.auth.gate import Gate, Principal
from fhir_server.interactions.async_work import Overtaken, carry_out
from fhir_server.storage.port import Commit, Unit
from tests.interactions.async_world import World, numbered, outcome_of, posts, status, world
from tests.interactions.bundles import batch, entry, patient, transaction

HOUR = 3_600_000


# --- interruptions
class Stopped(BaseException):
    """Stands for the end of the process."""


def stopping(w: World, after: int) -> Gate:
    """A gate behind which the process ends right after so many commits."""
    left = after

    class Stopping(Gate):
        async def transact(self, principal: Principal, unit: Unit) -> Commit:
            nonlocal left
            if left <= 0:
                raise Stopped
            left -= 1
            commit = await super().transact(principal, unit)
            if left <= 0:
                raise Stopped
            return commit

        def at(self, snapshot: int) -> Gate:
            return Gate(w.store).at(snapshot)

    return Stopping(w.store)


@pytest.mark.parametrize("after", [1, 7, 63, 64, 65, 149, 150])
async def test_an_interrupted_batch_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    async with world(tmp_path) as w:
        await w.put(*(patient(f"w{n}", id=f"w{n}") for n in range(50)))
        change = {"resourceType": "Binary", "contentType": "application/json-patch+json"}
        add = base64.b64encode(b'[{"op": "add", "path": "/identifier/-", "value": {"value": "once"}}]').decode()
        entries = [*posts(100), *(entry("PATCH", f"Patient/w{n}", {**change, "data": add}) for n in range(50))]
        address = await w.begin("POST", "", batch(*entries, entry("GET", "Patient/w0")))
        id, own = address.rpartition("/")[2], w.context.gate
        w.context.gate = stopping(w, after)
        with pytest.raises(Stopped):
            await carry_out(w.context, w.store, id, 1)
        w.context.gate = own
        await carry_out(w.context, w.store, id, 2)
        assert [value for value in await w.patients() if value[0] == "v"] == [f"v{n:04}" for n in range(100)]
        found = (await w.outcome(address))["resource"]["entry"]
        assert [one["response"]["status"][:3] for one in found] == ["201"] * 100 + ["200"] * 51
        for n, one in enumerate(found[:100]):
            made = json.loads((await w.ask("GET", one["response"]["location"])).body)
            assert made["identifier"][0]["value"] == f"v{n:04}", "the answer is that of its own entry"
        for n in range(50):
            now = json.loads((await w.ask("GET", f"Patient/w{n}")).body)
            assert [one["value"] for one in now["identifier"]] == [f"w{n}", "once"]


async def test_an_operation_that_was_interrupted_is_not_begun_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        tag = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"system": "s", "code": "c"}]}}]}
        address = await w.begin("POST", "", batch(entry("POST", "Patient/p0000/$meta-add", tag)))
        id, own = address.rpartition("/")[2], w.context.gate
        w.context.gate = stopping(w, 1)
        with pytest.raises(Stopped):
            await carry_out(w.context, w.store, id, 1)
        w.context.gate = own
        await carry_out(w.context, w.store, id, 2)
        (answer,) = (await w.outcome(address))["resource"]["entry"]
        assert answer["response"]["status"][:3] == "500" and answer["response"]["outcome"]["issue"][0]["code"] == "incomplete"


async def test_a_transaction_that_was_interrupted_behind_its_unit_only_reads_what_is_left(tmp_path: Path) -> None:
    """Its reading entries show the state right after its writes (https://hl7.org/fhir/R4/http.html#trules)."""
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        reads = [entry("GET", "Patient/p0000"), entry("GET", "Patient?identifier=v0001,later"), entry("GET", "Patient/q")]
        address = await w.begin("POST", "", transaction(*posts(3), entry("PUT", "Patient/q", patient("q", id="q")), *reads))
        id, own = address.rpartition("/")[2], w.context.gate
        w.context.gate = stopping(w, 1)
        with pytest.raises(Stopped):
            await carry_out(w.context, w.store, id, 1)
        w.context.gate = own
        assert (await w.ask("GET", address)).status == 202
        await w.put(patient("later", id="later"), patient("changed", id="p0000"))
        await carry_out(w.context, w.store, id, 2)
        found = (await w.outcome(address))["resource"]["entry"]
        assert [one["response"]["status"][:3] for one in found] == ["201"] * 4 + ["200"] * 3
        assert found[4]["resource"]["identifier"][0]["value"] == "v0000"
        assert [one["resource"]["identifier"][0]["value"] for one in found[5]["resource"]["entry"]] == ["v0001"]
        assert found[6]["resource"]["id"] == "q"
        assert (await w.patients()).count("v0002") == 1


async def test_two_attempts_at_a_time_do_it_once(tmp_path: Path) -> None:
    """As after a lease that ran out while its holder was still at work."""
    async with world(tmp_path) as w:
        addresses = [await w.begin("POST", "", batch(*posts(150))), await w.begin("POST", "", transaction(*posts(20)))]
        for address in addresses:
            both = (carry_out(w.context, w.store, address.rpartition("/")[2], attempt) for attempt in (1, 2))
            for end in await asyncio.gather(*both, return_exceptions=True):
                assert end is None or isinstance(end, Overtaken)
            await w.settle()
            await w.outcome(address)
        assert len(await w.patients()) == 170


# --- cancellation
async def test_cancelled_before_the_start_nothing_happens(tmp_path: Path) -> None:
    """R5: following the delete request the server SHALL answer 404 with an OperationOutcome."""
    async with world(tmp_path) as w:
        addresses = [await w.begin("POST", "", bundle) for bundle in (batch(*posts(2)), transaction(*posts(2)))]
        for address in addresses:
            answer = await w.ask("DELETE", address)
            assert answer.status == 202 and json.loads(answer.body)["issue"][0]["severity"] == "information"
            outcome_of(await w.ask("GET", address), 404, "not-found")
            outcome_of(await w.ask("DELETE", address), 404, "not-found")
        await w.settle()
        assert await w.patients() == [] and "async.body" not in {collection for collection, _ in w.kept()}
        chinese = await w.ask("GET", addresses[0], headers={"accept-language": "zh"})
        assert "取消" in outcome_of(chinese, 404, "not-found")["details"]["text"]


async def test_cancelled_while_it_runs_a_batch_stops_between_entries(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("POST", "", batch(*posts(400)))
        said: list[str] = []
        written = 0

        class Cancelling(Gate):
            async def transact(self, principal: Principal, unit: Unit) -> Commit:
                nonlocal written
                commit = await super().transact(principal, unit)
                written += len(commit.outcomes)
                if written >= 100 and not said:
                    said.append("")
                    said[0] = json.loads((await w.ask("DELETE", address)).body)["issue"][0]["diagnostics"]
                return commit

        w.context.gate = Cancelling(w.store)
        await w.settle()
        done = len(await w.patients())
        assert 100 <= done < 400 and "of 400 were done and stay done" in said[0]
        outcome_of(await w.ask("GET", address), 404, "not-found")
        await w.settle()
        assert len(await w.patients()) == done
        assert {job["state"] for job in await w.store.list_jobs(kind="async.request")} == {"done"}


async def test_cancelled_while_it_is_prepared_a_transaction_does_not_happen(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("POST", "", transaction(*posts(5)))

        class Cancelling(Gate):
            async def transact(self, principal: Principal, unit: Unit) -> Commit:
                w.context.gate = Gate(w.store)
                assert (await w.ask("DELETE", address)).status == 202
                return await super().transact(principal, unit)

        w.context.gate = Cancelling(w.store)
        await w.settle()
        assert not isinstance(w.context.gate, Cancelling)
        assert await w.patients() == []
        outcome_of(await w.ask("GET", address), 404, "not-found")


async def test_a_cancellation_beside_a_transaction_holds_wholly_or_not_at_all(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        outcomes = set()
        for round in range(12):
            sent = transaction(*(entry("POST", "Patient", patient(f"r{round}-{n}")) for n in range(8)))
            address = await w.begin("POST", "", sent)

            async def cancel(address: str = address, turns: int = round) -> str:
                for _ in range(turns * 2):
                    await asyncio.sleep(0)
                return str(json.loads((await w.ask("DELETE", address)).body)["issue"][0]["diagnostics"])

            _, said = await asyncio.gather(carry_out(w.context, w.store, address.rpartition("/")[2], 1), cancel())
            there = [value for value in await w.patients() if value.startswith(f"r{round}-")]
            assert len(there) in (0, 8)
            assert ("had been carried out" in said) == (len(there) == 8), said
            outcomes.add(len(there))
            await w.settle()
            assert len([value for value in await w.patients() if value.startswith(f"r{round}-")]) == len(there)
        assert 0 in outcomes


async def test_deleted_after_the_end_the_result_is_gone_and_what_was_written_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("POST", "", batch(*posts(2)))
        await w.settle()
        assert (await w.ask("DELETE", address)).status == 202
        outcome_of(await w.ask("GET", address), 404, "not-found")
        assert len(await w.patients()) == 2


@pytest.mark.parametrize("place", ["00", "x" * 200, "a%2Fb", "*"])
async def test_an_unknown_status_address_is_404(tmp_path: Path, place: str) -> None:
    async with world(tmp_path) as w:
        for method in ("GET", "DELETE"):
            issue = outcome_of(await w.ask(method, f"$async-status/{place}", headers={"accept-language": "zh"}), 404, "not-found")
            assert "没有异步请求" in issue["details"]["text"]


async def test_a_status_address_has_no_parameters_of_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("GET", "Patient?active=true")
        assert "'x'" in outcome_of(await w.ask("GET", f"{address}?x=1"), 400, "not-supported")["diagnostics"]
        assert (await w.ask("GET", f"{address}?_format=json")).status == 202


async def test_a_status_address_cannot_be_an_entry_of_a_bundle(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("GET", "Patient?active=true")
        answer = json.loads((await w.ask("POST", "", batch(entry("DELETE", status(address))))).body)
        assert answer["entry"][0]["response"]["status"].split()[0] == "400"
        assert (await w.ask("GET", address)).status == 202


# --- expiry
async def test_expired_it_is_gone_with_everything_that_was_kept(tmp_path: Path) -> None:
    async with world(tmp_path, async_hours=2) as w:
        addresses = [
            await w.begin("POST", "", batch(*posts(3), entry("POST", "$convert", patient()))),
            await w.begin("POST", "", transaction(*posts(3), entry("GET", "Patient?active=true"))),
            await w.begin("GET", "Patient?active=true"),
            await w.begin("GET", "Patient?active=false"),
        ]
        await w.ask("DELETE", addresses[3])
        await w.settle()
        w.clock.advance(HOUR + 1)
        await w.settle()
        assert {collection for collection, _ in w.kept()} == {"async.request", "async.result"}, "what the work needed goes first"
        for address in addresses[:3]:
            await w.outcome(address)
        w.clock.advance(HOUR)
        outcome_of(await w.ask("GET", addresses[0]), 404, "not-found")  # also where the timer is late
        await w.settle()
        for address in addresses:
            outcome_of(await w.ask("GET", address), 404, "not-found")
        assert w.kept() == [] and {job["state"] for job in await w.store.list_jobs()} == {"done"}
