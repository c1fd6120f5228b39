"""Asynchronous requests: kick-off, status, result, cancellation, expiry.

Specification: https://hl7.org/fhir/R4/async.html, https://hl7.org/fhir/R5/async-bundle.html, https://www.rfc-editor.org/rfc/rfc7240
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fhir_server.auth.gate import ALL_SEEING, Gate, Principal
from fhir_server.errors import FhirError
from fhir_server.interactions import search
from fhir_server.interactions.async_status import async_status
from fhir_server.interactions.async_work import carry_out
from fhir_server.interactions.dispatch import dispatch
from fhir_server.interactions.http import Request
from fhir_server.storage.port import Commit, Unit
from tests.interactions.async_world import ASYNC, BASE, LI, WANG, World, numbered, outcome_of, posts, world
from tests.interactions.bundles import batch, entry, observation, patient, transaction

HOUR = 3_600_000


# --- the pattern
async def test_the_kick_off_answers_202_with_the_absolute_status_address(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        answer = await w.ask("GET", "Patient?active=true", headers=ASYNC)
        headers = dict(answer.headers)
        assert answer.status == 202 and headers["Content-Location"].startswith(BASE + "/")
        assert headers["Preference-Applied"] == "respond-async"  # RFC 7240 section 3
        assert json.loads(answer.body)["resourceType"] == "OperationOutcome"


async def test_under_way_the_status_is_202_with_progress_and_retry_after(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("GET", "Patient?active=true")
        answer = await w.ask("GET", address)
        headers = dict(answer.headers)
        assert answer.status == 202 and 0 < len(headers["X-Progress"]) < 100
        assert 1 <= int(headers["Retry-After"]) <= 30


async def test_finished_the_status_is_200_with_a_batch_response_of_one_entry(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(3))
        address = await w.begin("GET", "Patient?active=true")
        await w.settle()
        found = await w.outcome(address)
        assert found["response"]["status"].split()[0] == "200"
        assert (found["resource"]["type"], found["resource"]["total"]) == ("searchset", 3)
        expires = dict((await w.ask("GET", address)).headers)["Expires"]
        assert expires == "Tue, 03 Mar 2026 00:00:00 GMT"  # 24 hours behind 2026-03-02 08:00 in China


async def test_nothing_is_done_before_the_job_runs_and_nothing_twice(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.begin("POST", "", batch(*posts(3)))
        assert await w.patients() == []
        await w.settle()
        await w.settle()
        assert await w.patients() == ["v0000", "v0001", "v0002"]


@pytest.mark.parametrize(
    ("method", "url", "form", "ids"),
    [
        ("GET", "Patient?identifier=v0001", b"", ["p0001"]),
        ("POST", "Patient/_search", b"identifier=v0001,v0002", ["p0001", "p0002"]),
        ("GET", "?_type=Patient,Observation&_id=o1,p0000", b"", ["o1", "p0000"]),
        ("POST", "_search", b"_type=Observation&_id=o1", ["o1"]),
        ("GET", "Patient/p0001/Observation", b"", ["o1"]),
        ("GET", "Patient/p0001/*?_type=Observation", b"", ["o1"]),
        ("GET", "Observation?_include=Observation:subject", b"", ["o1", "p0001"]),
    ],
)
async def test_searches_of_every_form(tmp_path: Path, method: str, url: str, form: bytes, ids: list[str]) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(3), observation("Patient/p0001", id="o1"))
        kind = {"content-type": "application/x-www-form-urlencoded"} if form else {}
        address = await w.begin(method, url, form or None, **kind)
        await w.settle()
        found = (await w.outcome(address))["resource"]
        assert sorted(one["resource"]["id"] for one in found["entry"]) == ids
        assert all(one["fullUrl"] == f"{BASE}/{one['resource']['resourceType']}/{one['resource']['id']}" for one in found["entry"])


async def test_a_history(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(2))
        address = await w.begin("GET", "Patient/_history")
        await w.settle()
        found = (await w.outcome(address))["resource"]
        assert (found["type"], [one["resource"]["id"] for one in found["entry"]]) == ("history", ["p0001", "p0000"])


async def test_a_search_without_count_gives_all_matches_as_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_WHOLE_PAGE", 10)
    async with world(tmp_path) as w:
        await w.put(*numbered(45))

        class Changing(Gate):
            async def search(self, *asked: Any) -> Any:
                page = await super().search(*asked)
                await w.put(patient("later", id="a-later", active=True))
                return page

        w.context.gate = Changing(w.store)
        address = await w.begin("GET", "Patient?active=true&_sort=_id")
        await w.settle()
        found = (await w.outcome(address))["resource"]
        assert [one["resource"]["id"] for one in found["entry"]] == [f"p{n:04}" for n in range(45)]
        assert found["total"] == 45 and [link["relation"] for link in found["link"]] == ["self"]


async def test_beyond_the_most_a_search_is_cut_and_its_next_link_leads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_WHOLE_PAGE", 10)
    monkeypatch.setattr(search, "MOST_WHOLE", 20)
    async with world(tmp_path) as w:
        await w.put(*numbered(25))
        address = await w.begin("GET", "Patient?active=true&_sort=_id")
        await w.settle()
        found = (await w.outcome(address))["resource"]
        assert [one["resource"]["id"] for one in found["entry"]] == [f"p{n:04}" for n in range(20)]
        following = next(link["url"] for link in found["link"] if link["relation"] == "next")
        rest = json.loads((await w.ask("GET", following)).body)
        assert [one["resource"]["id"] for one in rest["entry"]] == [f"p{n:04}" for n in range(20, 25)]


async def test_with_count_the_result_is_the_page_that_the_synchronous_search_gives(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(25))
        address = await w.begin("GET", "Patient?active=true&_sort=_id&_count=10")
        await w.settle()
        found = (await w.outcome(address))["resource"]
        direct = json.loads((await w.ask("GET", "Patient?active=true&_sort=_id&_count=10")).body)
        assert found["entry"] == direct["entry"] and len(found["entry"]) == 10
        following = next(link["url"] for link in found["link"] if link["relation"] == "next")
        rest = json.loads((await w.ask("GET", following)).body)
        assert [one["resource"]["id"] for one in rest["entry"]] == [f"p{n:04}" for n in range(10, 20)]


async def test_a_batch_answers_with_one_entry_for_each_of_its_own_in_order(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        address = await w.begin(
            "POST",
            "",
            batch(
                entry("GET", "Patient/p0000"),
                entry("POST", "Patient", patient("new")),
                entry("GET", "Patient/nobody"),
                entry("POST", "Patient", {"resourceType": "Patient", "gender": "x"}),
                entry("DELETE", "Patient/p0000"),
                entry("POST", "$convert", patient("converted")),
            ),
        )
        await w.settle()
        found = (await w.outcome(address))["resource"]
        assert found["type"] == "batch-response"
        assert [one["response"]["status"].split()[0] for one in found["entry"]] == ["410", "201", "404", "422", "204", "200"]
        assert found["entry"][5]["resource"]["identifier"][0]["value"] == "converted"


async def test_a_transaction_with_reads_answers_as_the_synchronous_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        sent = transaction(
            entry("POST", "Patient", patient("new"), "urn:uuid:00000000-0000-4000-8000-000000000001"),
            entry("POST", "Observation", observation("urn:uuid:00000000-0000-4000-8000-000000000001")),
            entry("GET", "Patient/p0000"),
            entry("GET", "Patient?identifier=new"),
        )
        address = await w.begin("POST", "", sent)
        await w.settle()
        found = (await w.outcome(address))["resource"]
        assert found["type"] == "transaction-response"
        assert [one["response"]["status"].split()[0] for one in found["entry"]] == ["201", "201", "200", "200"]
        created = found["entry"][0]["response"]["location"].split("/_history")[0]
        assert found["entry"][2]["resource"]["id"] == "p0000"
        (match,) = found["entry"][3]["resource"]["entry"]
        assert f"Patient/{match['resource']['id']}" == created
        made = await w.ask("GET", found["entry"][1]["response"]["location"])
        assert json.loads(made.body)["subject"]["reference"] == created


async def test_the_wishes_beside_respond_async_hold_for_the_result(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        address = await w.begin("POST", "", batch(*posts(1)), prefer="respond-async, return=representation")
        lenient = await w.begin("GET", "Patient?nothing=1", prefer="handling=lenient, respond-async")
        await w.settle()
        (made,) = (await w.outcome(address))["resource"]["entry"]
        assert made["resource"]["identifier"][0]["value"] == "v0000"
        found = (await w.outcome(lenient))["resource"]["entry"]
        assert {one["search"]["mode"] for one in found} == {"match", "outcome"}


@pytest.mark.parametrize(
    ("method", "url"), [("GET", "Patient/p0000"), ("GET", "metadata"), ("PUT", "Patient/p0000"), ("DELETE", "Patient/p0000")]
)
async def test_elsewhere_the_preference_is_passed_over(tmp_path: Path, method: str, url: str) -> None:
    """RFC 7240 section 2."""
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        answer = await w.ask(method, url, patient(id="p0000") if method == "PUT" else None, headers=ASYNC)
        assert answer.status in (200, 204) and "Preference-Applied" not in dict(answer.headers)
        assert w.kept() == []


# --- refusals
@pytest.mark.parametrize(
    ("method", "url", "content", "refused"),
    [
        ("GET", "Patient?nothing=1", None, 400),
        ("GET", "Patient?birthdate=never", None, 400),
        ("GET", "Patient?_cursor=made-up", None, 400),
        ("GET", "Nothing?x=1", None, 404),
        ("GET", "Patient/_history?_count=many", None, 400),
        ("POST", "Patient/_search", b"{}", 415),
        ("POST", "", b"{", 400),
        ("POST", "", patient(), 400),
        ("POST", "", {"resourceType": "Bundle", "type": "collection"}, 400),
        ("POST", "", {"resourceType": "Bundle", "type": "batch", "nothing": 1}, 400),
        ("POST", "", transaction(entry("POST", "Nothing", patient())), 404),
    ],
)
async def test_what_can_be_seen_at_once_is_refused_at_once_as_synchronously(
    tmp_path: Path, method: str, url: str, content: Any, refused: int
) -> None:
    async with world(tmp_path) as w:
        at_once, later = await w.ask(method, url, content), await w.ask(method, url, content, headers=ASYNC)
        assert (later.status, later.body) == (at_once.status, at_once.body) and later.status == refused
        assert w.kept() == [] and await w.store.list_jobs() == []


async def test_a_bulk_answer_is_refused(tmp_path: Path) -> None:
    """R5: with _outputFormat, a server without that pattern SHALL return an error."""
    async with world(tmp_path) as w:
        for prefer in ("respond-async", "respond-async, handling=lenient"):
            answer = await w.ask("GET", "Patient?_outputFormat=ndjson", headers={"prefer": prefer})
            assert "_outputFormat" in outcome_of(answer, 400, "not-supported")["diagnostics"]


async def test_a_failure_stands_in_the_entry_and_the_status_is_200(tmp_path: Path) -> None:
    """R5: "A successful completion of the status request SHOULD be used whenever processing has completed"."""
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        sent = transaction(entry("POST", "Patient", patient("x")), entry("PUT", "Patient/p0000", patient(id="p0000"), ifMatch='W/"7"'))
        address = await w.begin("POST", "", sent)
        await w.settle()
        found = await w.outcome(address)
        assert found["response"]["status"].split()[0] == "412" and "resource" not in found
        assert found["response"]["outcome"]["resourceType"] == "OperationOutcome"
        assert "Bundle.entry[1]" in found["response"]["outcome"]["issue"][0]["diagnostics"]
        assert await w.patients() == ["v0000"]
        assert {job["state"] for job in await w.store.list_jobs(kind="async.request")} == {"done"}


class Failing(Gate):
    """A gate whose searches fail."""

    fault: Exception

    async def search(self, *_: Any) -> Any:
        raise self.fault

    @classmethod
    def by(cls, w: World, fault: Exception) -> Failing:
        gate = cls(w.store)
        gate.fault = fault
        return gate


async def test_a_fault_of_the_server_is_told_under_a_reference(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("GET", "Patient?active=true")
        w.context.gate = Failing.by(w, ZeroDivisionError())
        await w.settle()
        found = await w.outcome(address)
        assert found["response"]["status"].split()[0] == "500" and found["response"]["outcome"]["issue"][0]["code"] == "exception"


async def test_what_passes_is_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put(*numbered(1))
        address = await w.begin("GET", "Patient?active=true")
        w.context.gate = Failing.by(w, FhirError.of(503, "transient", "not now"))
        await w.settle()
        w.context.gate = Gate(w.store)
        assert (await w.ask("GET", address)).status == 202
        w.clock.advance(HOUR)
        await w.settle()
        assert (await w.outcome(address))["resource"]["total"] == 1


async def test_a_search_that_takes_too_long_is_not_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("GET", "Patient?active=true")
        w.context.gate = Failing.by(w, FhirError.of(503, "too-costly", "too long"))
        await w.settle()
        assert (await w.outcome(address))["response"]["status"].split()[0] == "503"


async def test_a_request_that_never_comes_to_an_end_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("POST", "", batch(*posts(2)))
        await carry_out(w.context, w.store, address.rpartition("/")[2], 51)
        assert (await w.outcome(address))["response"]["status"].split()[0] == "500" and await w.patients() == []


# --- who may see it
async def test_only_who_asked_sees_the_status_and_may_cancel(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        address = await w.begin("POST", "", batch(*posts(1)), principal=LI)
        for method in ("GET", "DELETE"):
            outcome_of(await w.ask(method, address, principal=WANG), 404, "not-found")
        await w.settle()
        outcome_of(await w.ask("GET", address, principal=WANG), 404, "not-found")
        assert (await w.outcome(address, principal=LI))["resource"]["type"] == "batch-response"


async def test_the_work_is_done_in_the_name_of_who_asked(tmp_path: Path) -> None:
    who = Principal("li", "clinician", "Practitioner/li", frozenset({"user/*.rs", "openid"}), "t1", "TREAT", "Patient/1")
    asked: list[Principal] = []

    class Watching(Gate):
        async def search(self, principal: Principal, *rest: Any) -> Any:
            asked.append(principal)
            return await super().search(principal, *rest)

        async def transact(self, principal: Principal, unit: Unit) -> Commit:
            commit = await super().transact(principal, unit)
            if commit.outcomes:
                asked.append(principal)
            return commit

        def require(self, principal: Principal, policy: str) -> None:
            asked.append(principal)

    async with world(tmp_path) as w:
        w.context.gate = Watching(w.store)
        await w.begin("GET", "Patient?active=true", principal=who)
        await w.begin("POST", "", batch(*posts(2)), principal=who)
        await w.begin("POST", "", transaction(*posts(2)), principal=who)
        await w.settle()
        assert len(asked) > 10 and set(asked) == {who}


async def test_the_gate_is_asked_before_anything_is_kept(tmp_path: Path) -> None:
    class Closed(Gate):
        def require(self, principal: Principal, policy: str) -> None:
            raise FhirError.of(403, "forbidden", f"not {policy}")

    async with world(tmp_path) as w:
        w.context.gate = Closed(w.store)
        outcome_of(await w.ask("POST", "", batch(*posts(1)), headers=ASYNC), 403, "forbidden")
        outcome_of(await w.ask("GET", "$async-status/00"), 403, "forbidden")
        assert w.kept() == []


async def test_few_run_at_a_time_and_all_in_the_end(tmp_path: Path) -> None:
    """Long requests have a lane of their own."""
    async with world(tmp_path) as w:
        running, most, goes_on = 0, 0, asyncio.Event()

        class Slow(Gate):
            async def search(self, *asked: Any) -> Any:
                nonlocal running, most
                running += 1
                most = max(most, running)
                if running == 4:
                    goes_on.set()
                await goes_on.wait()
                await asyncio.sleep(0.01)
                running -= 1
                return await super().search(*asked)

        w.context.gate = Slow(w.store)
        addresses = [await w.begin("GET", f"Patient?_count={n + 1}") for n in range(12)]
        await w.room.jobs.start()
        async with asyncio.timeout(30):
            while {(await w.ask("GET", address)).status for address in addresses} != {200}:
                await asyncio.sleep(0.01)
        assert most == 4
        shared = [kind.name for kind in w.room.jobs.kinds if kind.lane.name == "requests"]
        assert sorted(shared) == ["async.forget", "async.request"]


async def test_too_many_at_a_time_are_429_for_one_client_only(tmp_path: Path) -> None:
    async with world(tmp_path, async_requests=2) as w:
        first = await w.begin("GET", "Patient?active=true", principal=LI)
        await w.begin("POST", "", transaction(*posts(1)), principal=LI)
        refused = await w.ask("GET", "Patient?active=true", principal=LI, headers={**ASYNC, "accept-language": "zh"})
        assert "2" in outcome_of(refused, 429, "throttled")["details"]["text"] and int(dict(refused.headers)["Retry-After"]) > 0
        await w.begin("GET", "Patient?active=true", principal=WANG)
        assert (await w.ask("DELETE", first, principal=LI)).status == 202
        await w.begin("GET", "Patient?active=true", principal=LI)
        await w.settle()
        for _ in range(2):
            await w.begin("GET", "Patient?active=true", principal=LI)


# --- forms
async def test_without_a_wish_at_the_status_address_the_form_of_the_kick_off_holds(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        request = Request("GET", "Patient", "active=true", {**ASYNC, "accept": "application/fhir+xml"}, b"", BASE, form="xml")
        id = dict((await dispatch(w.context, request)).headers)["Content-Location"].rpartition("/")[2]
        for accept, form in ((None, "xml"), ("*/*", "xml"), ("application/fhir+json", "json")):
            asked = Request("GET", f"$async-status/{id}", "", {"accept": accept} if accept else {}, b"", BASE, ALL_SEEING)
            await async_status(w.context, asked, id)
            assert asked.form == form
