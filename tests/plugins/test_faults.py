"""What plug-ins do wrong while the server runs: the request fails closed, nothing is written or shown, and the log names the culprit."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server, start_server
from tests.hl7v2.support import Peer
from tests.plugins.packages import install, wheel
from tests.plugins.test_example import admission, bundle, eventually, number_of

Resource = dict[str, Any]

CODE = """
import asyncio
from fhir_server.plugins import FhirError, Plugin
from fhir_server.storage.port import Effects, Record
from subscriptions.jobs.feed import FeedReader


def family(resource):
    return (resource or {}).get("name", [{}])[0].get("family", "")


class Faulty(Plugin):
    before_write_types = before_answer_types = ("Patient",)

    def before_write(self, writing):
        said, resource = family(writing.resource), writing.resource
        if said == "Raise":
            raise RuntimeError("the secret of " + said)
        if said == "Break":
            return {**resource, "gender": 7}
        if said == "Other":
            return {**resource, "id": "another"}
        if said == "Text":
            return "no resource"
        if any(one.get("code") == "no" for one in (resource or {}).get("meta", {}).get("tag", [])):
            raise FhirError.of(422, "business-rule", "the label 'no' is not wanted", "Patient.meta.tag")
        if said == "Forbid":
            raise FhirError.of(403, "forbidden", "not this one", "Patient.name")
        if said == "InPlace":
            resource["gender"] = "male"
        if said == "Tag":
            return {**resource, "meta": {"tag": [*resource.get("meta", {}).get("tag", []), {"code": "seen"}]}}
        if resource is None and family(writing.previous) == "Keep":
            raise FhirError.of(403, "forbidden", "this one is kept")

    def after_commit(self, commit):
        raise RuntimeError("after")

    def before_answer(self, leaving):
        said = family(leaving.resource)
        if said == "Leak":
            raise RuntimeError("the secret of " + said)
        if said == "Swap":
            return {**leaving.resource, "id": "another"}


class Waiting(Plugin):
    before_write_types = ("Observation",)

    async def before_write(self, writing):
        resource = writing.resource
        if resource is None:
            return None
        if resource["code"]["text"] == "late":
            await asyncio.sleep(60)
        if resource["code"]["text"] == "raise":
            raise RuntimeError("waiting")
        id = resource.get("subject", {}).get("reference", "Patient/").partition("/")[2]
        patient = await writing.view.gate.read(writing.view.principal, "Patient", id)
        if patient is None or patient.deleted:
            raise FhirError.of(422, "not-found", f"Patient/{id} is not here", "Observation.subject")
        return {**resource, "valueString": "checked"}


class Reader(Plugin):
    async def after_commit(self, commit):
        raise RuntimeError("after, beside")

    def readers(self):
        async def react(versions):
            return Effects(records=[Record("faulty_seen", f"{one.rid}", {"type": one.type}) for one in versions])

        return [FeedReader("faulty_reader", react)]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faulty")
    points = {"faulty": "faulty:Faulty", "waiting": "faulty:Waiting", "reading": "faulty:Reader"}
    environment = install(folder / "site", wheel(folder, "faulty", "0.1", {"faulty.py": CODE}, points))
    running = start_server(folder / "data", "--mllp-port", "0", env=environment)
    yield running
    running.kill()


def patient(family: str, **more: Any) -> Resource:
    return {"resourceType": "Patient", "name": [{"family": family}], **more}


def observation(text: str, subject: str = "Patient/w1", **more: Any) -> Resource:
    return {"resourceType": "Observation", "status": "final", "code": {"text": text}, "subject": {"reference": subject}, **more}


def failure(server: Server, answer: httpx.Response) -> dict[str, Any]:
    """The log line of a plug-in's fault, by the reference that the client got; the client learns nothing else."""
    assert answer.status_code == 500
    assert "secret" not in answer.text
    found = re.search(r"reference ([0-9a-f]{8})", answer.json()["issue"][0]["diagnostics"])
    assert found

    def line() -> dict[str, Any] | None:
        return next((json.loads(one) for one in server.log if f'"reference":"{found.group(1)}"' in one and "a plug-in failed" in one), None)

    told: dict[str, Any] = eventually(line)
    return told


@pytest.mark.parametrize("family", ["Raise", "Break", "Other", "Text"])
def test_a_hook_that_fails_before_a_write_lets_nothing_through(server: Server, client: httpx.Client, family: str) -> None:
    before = number_of(client)
    for answer in (
        client.post("Patient", json=patient(family)),
        client.put("Patient/f1", json=patient(family, id="f1")),
        client.post("", json=bundle("transaction", ("POST", "Patient", patient("Good")), ("POST", "Patient", patient(family)))),
    ):
        told = failure(server, answer)
        assert (told["plugin"], told["hook"]) == ("faulty", "before_write")
    assert number_of(client) == before


def test_others_in_flight_are_not_harmed(client: httpx.Client) -> None:
    entries = [("POST", "Patient", patient("Raise" if n == 3 else "Good")) for n in range(8)]
    answers = client.post("", json=bundle("batch", *entries)).json()["entry"]
    assert [one["response"]["status"][:3] for one in answers] == ["201"] * 3 + ["500"] + ["201"] * 4


def test_a_refusal_keeps_its_status(client: httpx.Client) -> None:
    answer = client.post("Patient", json=patient("Forbid"))
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (403, "forbidden")


def test_what_is_changed_in_place_and_not_answered_does_not_count(client: httpx.Client) -> None:
    made = client.post("Patient", json=patient("InPlace"), headers={"Prefer": "return=representation"}).json()
    assert "gender" not in made


def test_a_changed_resource_is_stored_and_searched_as_changed(client: httpx.Client) -> None:
    made = client.post("Patient", json=patient("Tag"), headers={"Prefer": "return=representation"}).json()
    assert made["meta"]["tag"] == [{"code": "seen"}]
    client.post("", json=bundle("transaction", ("PUT", "Patient/g1", patient("Tag", id="g1"))))
    assert client.get("Patient/g1").json()["meta"]["tag"] == [{"code": "seen"}]
    assert client.get("Patient?_tag=seen").json()["total"] == 2


def test_an_operation_that_writes_is_asked_too(client: httpx.Client) -> None:
    client.put("Patient/o1", json=patient("Good", id="o1"))
    for code, status in (("no", 422), ("yes", 200)):
        label = [{"name": "meta", "valueMeta": {"tag": [{"system": "urn:x", "code": code}]}}]
        answer = client.post("Patient/o1/$meta-add", json={"resourceType": "Parameters", "parameter": label})
        assert answer.status_code == status
    assert client.get("Patient/o1").json()["meta"]["tag"] == [{"system": "urn:x", "code": "yes"}]


@pytest.mark.parametrize("address", ["Patient/keep", "Patient?_id=keep", "bundle"])
def test_a_delete_can_be_refused_by_what_it_would_delete(client: httpx.Client, address: str) -> None:
    client.put("Patient/keep", json=patient("Keep", id="keep"))
    if address == "bundle":
        answer = client.post("", json=bundle("transaction", ("DELETE", "Patient/keep", None)))
    else:
        answer = client.delete(address)
    assert answer.status_code == 403
    assert client.get("Patient/keep").status_code == 200


@pytest.mark.parametrize("family", ["Leak", "Swap"])
def test_a_hook_that_fails_before_an_answer_shows_nothing(server: Server, client: httpx.Client, family: str) -> None:
    id = family.lower()
    assert client.put(f"Patient/{id}", json=patient(family, id=id), headers={"Prefer": "return=minimal"}).status_code == 201
    for address in (
        f"Patient/{id}",
        f"Patient?_id={id}",
        f"Patient/{id}/_history",
        f"Patient/{id}/_history/1",
        f"Patient/{id}/$everything",
    ):
        told = failure(server, client.get(address))
        assert (told["plugin"], told["hook"]) == ("faulty", "before_answer")
    answer = client.put(f"Patient/{id}", json=patient(family, id=id, gender="male"), headers={"Prefer": "return=representation"})
    assert answer.status_code == 500 and family not in answer.text
    client.delete(f"Patient/{id}")


def test_a_message_is_answered_ae_and_leaves_nothing(server: Server, client: httpx.Client) -> None:
    with Peer(server) as peer:
        assert peer.send(admission("F1", "F1").replace("孙^悟空", "Raise^X")).code == "AE"
        assert peer.send(admission("F2", "F2").replace("孙^悟空", "Good^X")).code == "AA"
    assert client.get("Patient?identifier=F1").json()["total"] == 0
    assert client.get("Patient?identifier=F2").json()["total"] == 1


def test_a_hook_that_fails_after_a_commit_fails_nothing(server: Server, client: httpx.Client) -> None:
    assert client.put("Patient/a1", json=patient("Good", id="a1")).status_code == 201
    eventually(lambda: {"faulty", "reading"} <= {json.loads(one)["plugin"] for one in server.log if '"hook":"after_commit"' in one})
    text = httpx.get(server.root + "/metrics").text
    assert 'fhir_server_events_total{event="plugin faulty after_commit failed"}' in text


# --- hooks that wait


def test_a_hook_that_waits_sees_the_server_and_changes_what_is_written(client: httpx.Client) -> None:
    client.put("Patient/w1", json=patient("Good", id="w1"))
    wish = {"Prefer": "return=representation"}
    assert client.post("Observation", json=observation("x"), headers=wish).json()["valueString"] == "checked"
    answer = client.put("Observation/w2", json=observation("x", "Patient/nobody", id="w2"))
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, ["Observation.subject"])
    assert client.get("Observation/w2").status_code == 404
    change = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Observation.subject.reference"},
        {"name": "value", "valueString": "Patient/nobody"},
    ]}]}  # fmt: skip
    client.put("Observation/w3", json=observation("x", id="w3"))
    assert client.patch("Observation/w3", json=change, headers={"Content-Type": "application/fhir+json"}).status_code == 422
    entries = [("POST", "Observation", observation("x")), ("POST", "Observation", observation("x", "Patient/nobody"))]
    answer = client.post("", json=bundle("transaction", *entries))
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (422, ["Bundle.entry[1].resource.subject"])


def test_links_of_a_transaction_are_settled_before_the_hook_is_asked(client: httpx.Client) -> None:
    """The patient of the same transaction is not stored yet: the hook is told the id that it will have, and refuses."""
    rows = bundle("transaction", ("POST", "Patient", patient("Good")), ("POST", "Observation", observation("x", "urn:uuid:1")))
    rows["entry"][0]["fullUrl"] = "urn:uuid:5f0d5f6e-7a55-5c1c-9d5e-2f5a9f0b6a11"
    rows["entry"][1]["resource"]["subject"]["reference"] = rows["entry"][0]["fullUrl"]
    said = client.post("", json=rows).json()["issue"][0]["diagnostics"]
    assert re.search(r"Patient/[0-9A-Za-z-]+ is not here", said) and "urn:uuid" not in said


def test_two_patches_at_the_same_time_are_both_kept(server: Server) -> None:
    """Also where what was asked about was changed meanwhile: it is asked about again."""
    import concurrent.futures

    with server.client() as client:
        client.put("Patient/w1", json=patient("Good", id="w1"))
        client.put("Observation/race", json=observation("x", id="race", note=[{"text": "0"}]))

    def add(number: int) -> int:
        with server.client() as client:
            change = [{"op": "add", "path": "/note/-", "value": {"text": f"n{number}"}}]
            kind = {"Content-Type": "application/json-patch+json"}
            for _ in range(20):
                status = client.patch("Observation/race", content=json.dumps(change), headers=kind).status_code
                if status != 409:
                    return status
        return status

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert set(pool.map(add, range(12))) == {200}
    with server.client() as client:
        notes = [one["text"] for one in client.get("Observation/race").json()["note"]]
    assert sorted(notes) == sorted(["0", *[f"n{number}" for number in range(12)]])


def test_a_hook_that_never_ends_is_given_up(server: Server, client: httpx.Client) -> None:
    began = time.monotonic()
    told = failure(server, client.post("Observation", json=observation("late")))
    assert told["plugin"] == "waiting"
    assert time.monotonic() - began < 30
    eventually(lambda: any('"plugin":"waiting"' in one and "a plug-in is slow" in one for one in server.log))


def test_a_hook_that_waits_and_fails_lets_nothing_through(server: Server, client: httpx.Client) -> None:
    told = failure(server, client.put("Observation/w9", json=observation("raise", id="w9")))
    assert (told["plugin"], told["hook"]) == ("waiting", "before_write")
    assert client.get("Observation/w9").status_code == 404


def test_a_reader_is_given_every_version(server: Server, client: httpx.Client) -> None:
    client.put("Basic/r1", json={"resourceType": "Basic", "id": "r1", "code": {"text": "x"}})
    eventually(lambda: re.search(r"^fhir_server_feed_lag_faulty_reader 0", httpx.get(server.root + "/metrics").text, re.M))
