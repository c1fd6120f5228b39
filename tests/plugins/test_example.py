"""The example plug-in, installed and loaded by a real server: each hook over the wire, on every write path.

The expectations are those of examples/plugin/README.md; the resident identity number is the one that GB 11643-1999 gives as its example.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT, Server, start_server
from tests.hl7v2.support import Peer
from tests.plugins.packages import example, install
from tests.subscriptions.receiver import receiver

NUMBER, MASKED = "11010519491231002X", "110105********002X"
RESIDENT = "urn:oid:2.16.156.10011.1.3"
PHONE = [{"system": "phone", "value": "13800138000"}]
Resource = dict[str, Any]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("plugin")
    return {**install(folder / "site", example(folder)), "EXAMPLE_LETTERS": str(folder / "letters")}


@pytest.fixture(scope="module")
def server(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("server") / "data", "--mllp-port", "0", env=environment)
    yield running
    running.kill()


def patient(**more: Any) -> Resource:
    return {"resourceType": "Patient", "name": [{"text": "孙悟空"}], **more}


def refused(answer: httpx.Response, where: str = "Patient.telecom") -> bool:
    issue = answer.json()["issue"][0]
    return answer.status_code == 422 and issue["code"] == "business-rule" and issue["expression"] == [where]


def bundle(kind: str, *entries: tuple[str, str, Resource | None]) -> Resource:
    rows = [{"request": {"method": method, "url": url}, **({"resource": one} if one else {})} for method, url, one in entries]
    return {"resourceType": "Bundle", "type": kind, "entry": rows}


def number_of(client: httpx.Client) -> int:
    total = client.get("Patient", params={"_summary": "count"}).json()["total"]
    assert isinstance(total, int)
    return total


def eventually(look: Callable[[], Any], seconds: float = 20.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.05)
    assert found
    return found


def test_its_loading_is_in_the_trail_of_administrative_actions(server: Server) -> None:
    rows = httpx.get(server.root + "/console/jobs/actions").json()["rows"]
    (line,) = [one for one in rows if one["action"] == "plugin-load"]
    assert line["what"].startswith("example") and line["outcome"] == "done" and "before_write" in line["detail"]


# --- before a write


@pytest.mark.parametrize("headers", [{}, {"If-None-Exist": "identifier=urn:x|none"}])
def test_a_create_is_refused_and_leaves_nothing(client: httpx.Client, headers: dict[str, str]) -> None:
    before = number_of(client)
    assert refused(client.post("Patient", json=patient(), headers=headers))
    assert number_of(client) == before
    assert client.post("Patient", json=patient(telecom=PHONE), headers=headers).status_code == 201


def test_the_refusal_is_in_the_language_of_the_client(client: httpx.Client) -> None:
    answer = client.post("Patient", json=patient(), headers={"Accept-Language": "zh-CN"})
    assert "没有电话" in answer.json()["issue"][0]["details"]["text"]


def test_an_update_is_refused_whether_by_id_or_by_criteria(client: httpx.Client) -> None:
    assert client.put("Patient/u1", json=patient(id="u1", telecom=PHONE)).status_code == 201
    assert refused(client.put("Patient/u1", json=patient(id="u1")))
    assert refused(client.put("Patient/u1", json=patient(id="u1"), headers={"If-Match": 'W/"1"'}))
    assert refused(client.put("Patient?_id=u1", json=patient()))
    assert refused(client.put("Patient/u2", json=patient(id="u2")))
    assert client.get("Patient/u1").headers["etag"] == 'W/"1"'
    assert client.get("Patient/u2").status_code == 404


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("application/json-patch+json", [{"op": "remove", "path": "/telecom"}]),
        ("application/merge-patch+json", {"telecom": None}),
        (
            "application/fhir+json",
            {
                "resourceType": "Parameters",
                "parameter": [
                    {
                        "name": "operation",
                        "part": [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.telecom[0]"}],
                    }
                ],
            },
        ),
    ],
)
def test_the_result_of_a_patch_is_refused(client: httpx.Client, kind: str, patch: Any) -> None:
    client.put("Patient/p1", json=patient(id="p1", telecom=PHONE))
    version = client.get("Patient/p1").headers["etag"]
    for address in ("Patient/p1", "Patient?_id=p1"):
        assert refused(client.patch(address, content=json.dumps(patch), headers={"Content-Type": kind}))
    assert client.get("Patient/p1").headers["etag"] == version


def test_other_types_and_deletes_are_not_refused(client: httpx.Client) -> None:
    assert client.post("Observation", json={"resourceType": "Observation", "status": "final", "code": {"text": "x"}}).status_code == 201
    client.put("Patient/d1", json=patient(id="d1", telecom=PHONE))
    assert client.delete("Patient/d1").status_code == 204
    assert client.delete("Patient?_id=d1").status_code == 204


def test_a_refused_entry_leaves_nothing_of_its_transaction(client: httpx.Client) -> None:
    before = number_of(client)
    entries = [("PUT", f"Patient/t{n}", patient(id=f"t{n}", telecom=PHONE)) for n in range(3)]
    observation = {"resourceType": "Observation", "id": "t9", "status": "final", "code": {"text": "x"}}
    answer = client.post("", json=bundle("transaction", *entries, ("POST", "Patient", patient()), ("PUT", "Observation/t9", observation)))
    assert refused(answer, "Bundle.entry[3].resource.telecom")
    assert "Bundle.entry[3]" in answer.json()["issue"][0]["diagnostics"]
    assert number_of(client) == before
    assert client.get("Observation/t9").status_code == 404
    assert client.get("Patient/t0").status_code == 404


def test_all_refused_entries_of_a_transaction_are_named(client: httpx.Client) -> None:
    entries = [("POST", "Patient", patient()), ("POST", "Patient", patient(telecom=PHONE)), ("PUT", "Patient/t5", patient(id="t5"))]
    answer = client.post("", json=bundle("transaction", *entries))
    places = [issue["expression"][0] for issue in answer.json()["issue"]]
    assert places == ["Bundle.entry[0].resource.telecom", "Bundle.entry[2].resource.telecom"]


def test_a_patch_entry_and_a_conditional_entry_are_refused(client: httpx.Client) -> None:
    client.put("Patient/t6", json=patient(id="t6", telecom=PHONE))
    version = client.get("Patient/t6").headers["etag"]
    path = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": "Patient.telecom[0]"}]
    change = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": path}]}
    for kind in ("transaction", "batch"):
        for entry in (("PATCH", "Patient/t6", change), ("PUT", "Patient?_id=t6", patient())):
            answer = client.post("", json=bundle(kind, entry))
            if kind == "transaction":
                assert refused(answer, "Bundle.entry[0].resource.telecom")
            else:
                assert answer.json()["entry"][0]["response"]["status"].startswith("422")
    assert client.get("Patient/t6").headers["etag"] == version


def test_a_batch_refuses_the_entry_alone(client: httpx.Client) -> None:
    answer = client.post("", json=bundle("batch", ("POST", "Patient", patient()), ("POST", "Patient", patient(telecom=PHONE))))
    responses = [entry["response"] for entry in answer.json()["entry"]]
    assert [one["status"][:3] for one in responses] == ["422", "201"]
    assert responses[0]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[0].resource.telecom"]


def test_a_mutation_of_graphql_is_refused(client: httpx.Client) -> None:
    before = number_of(client)
    text = 'mutation { PatientCreate(res: {resourceType: "Patient", name: [{text: "x"}]}) { id } }'
    answer = client.post("$graphql", json={"query": text})
    assert "Patient.telecom has no telephone" in answer.text
    assert number_of(client) == before


def test_a_load_refuses_the_resource_alone(environment: dict[str, str], tmp_path: Path) -> None:
    rows = [patient(id="v1"), patient(id="v2", telecom=PHONE), bundle("transaction", ("PUT", "Patient/v3", patient(id="v3")))]
    file = tmp_path / "all.ndjson"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = tmp_path / "report.json"
    line = [
        sys.executable,
        "-m",
        "fhir_server.cli",
        "load",
        str(file),
        "--data-dir",
        str(tmp_path / "data"),
        "--report",
        str(report),
        "--quiet",
    ]
    done = subprocess.run(line, check=False, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["refused"] == 2
    assert "Patient.telecom has no telephone" in json.dumps(told)
    loaded = start_server(tmp_path / "data", env={"FHIR_SERVER_PLUGINS": "off"})
    try:
        with loaded.client() as client:
            assert [client.get(f"Patient/v{n}").status_code for n in (1, 2, 3)] == [404, 200, 404]
    finally:
        loaded.kill()


# --- HL7 v2


def admission(number: str, control: str, *, phone: str = "", zpi: str = "") -> str:
    rows = [
        f"MSH|^~\\&|HIS|WARD|FHIR|HM|20260120103000||ADT^A01|{control}|P|2.5.1",
        "EVN|A01|20260120103000",
        f"PID|1||{number}^^^HIS^MR||孙^悟空||19680101|M|||||{phone}",
        "PV1|1|I|W1^101^1",
    ]
    return "\r".join([*rows, *([f"ZPI|{zpi}"] if zpi else [])]) + "\r"


def test_a_message_is_refused_or_completed_by_its_z_segment(server: Server, client: httpx.Client) -> None:
    with Peer(server) as peer:
        first = peer.send(admission("Z1", "C1"))
        assert first.code == "AE" and b"telephone" in first.raw
        assert client.get("Patient?identifier=Z1").json()["total"] == 0
        assert client.get("Encounter?subject:Patient.identifier=Z1").json()["total"] == 0
        assert peer.send(admission("Z1", "C2", zpi="13900139000")).code == "AA"
        (found,) = client.get("Patient?identifier=Z1").json()["entry"]
        assert [(one["system"], one["value"], one["use"]) for one in found["resource"]["telecom"]] == [("phone", "13900139000", "mobile")]
        assert peer.send(admission("Z2", "C3", phone="13700137000")).code == "AA"
        assert peer.send(admission("Z1", "C4", zpi="13900139000")).code == "AA"
    (found,) = client.get("Patient?identifier=Z1").json()["entry"]
    assert len(found["resource"]["telecom"]) == 1


# --- before an answer


@pytest.fixture(scope="module")
def known(server: Server) -> str:
    with server.client() as client:
        numbered = patient(id="m1", telecom=PHONE, identifier=[{"system": RESIDENT, "value": NUMBER}])
        assert client.put("Patient/m1", json=numbered).status_code == 201
        one = {"resourceType": "Observation", "id": "m2", "status": "final", "code": {"text": "x"}, "subject": {"reference": "Patient/m1"}}
        assert client.put("Observation/m2", json=one).status_code == 201
    return "m1"


READS = [
    "Patient/m1",
    "Patient/m1?_elements=identifier",
    "Patient/m1?_format=xml",
    "Patient/m1/_history/1",
    "Patient/m1/_history",
    "Patient/_history",
    "_history",
    f"Patient?identifier={RESIDENT}|{NUMBER}",
    "Patient?_id=m1&_summary=true",
    "Observation?_id=m2&_include=Observation:subject",
    "Patient?_id=m1&_revinclude=Observation:subject",
    "Patient/m1/$everything",
    "Patient/m1/$graphql?query={identifier{value}}",
]


@pytest.mark.parametrize("address", READS)
def test_no_read_shows_the_number(client: httpx.Client, known: str, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert f'"{NUMBER}"' not in answer.text  # the link of a search by it repeats what was asked
    assert f'"{MASKED}"' in answer.text


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_no_entry_of_a_bundle_shows_the_number(client: httpx.Client, known: str, kind: str) -> None:
    read = bundle(kind, ("GET", "Patient/m1", None), ("GET", "Patient?_id=m1", None), ("GET", "Patient/m1/_history", None))
    answer = client.post("", json=read)
    assert answer.status_code == 200
    assert NUMBER not in answer.text
    assert answer.text.count(MASKED) == 3


def result_of(client: httpx.Client, answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 202, answer.text
    status = answer.headers["content-location"]
    return eventually(lambda: found if (found := client.get(status)).status_code != 202 else None)


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_asynchronous_requests_are_asked_and_masked_too(client: httpx.Client, known: str, kind: str) -> None:
    wish = {"Prefer": "respond-async, return=representation"}
    id = f"async-{kind}"
    numbered = patient(id=id, telecom=PHONE, identifier=[{"system": RESIDENT, "value": NUMBER}])
    work = bundle(kind, ("PUT", f"Patient/{id}", numbered), ("GET", "Patient/m1", None))
    for sent in (work, bundle(kind, ("PUT", f"Patient/{id}", {**numbered, "gender": "male"}))):  # with reads, and all in its own unit
        done = result_of(client, client.post("", json=sent, headers=wish))
        assert done.status_code == 200 and NUMBER not in done.text
        assert done.json()["entry"][0]["response"]["status"].startswith("200")
    assert client.get(f"Patient/{id}").json()["gender"] == "male"
    before = number_of(client)
    refused_one = result_of(client, client.post("", json=bundle(kind, ("POST", "Patient", patient())), headers=wish))
    assert "business-rule" in refused_one.text and number_of(client) == before


def test_an_asynchronous_search_does_not_show_the_number(client: httpx.Client, known: str) -> None:
    done = result_of(client, client.get("Patient?_id=m1", headers={"Prefer": "respond-async"}))
    assert NUMBER not in done.text and MASKED in done.text


def test_no_answer_to_a_write_shows_the_number(client: httpx.Client) -> None:
    wish = {"Prefer": "return=representation"}
    numbered = patient(id="m3", telecom=PHONE, identifier=[{"system": RESIDENT, "value": NUMBER}, {"system": "urn:x", "value": "m3"}])
    change = [{"op": "replace", "path": "/name/0/text", "value": "齐天大圣"}]
    kind = {"Content-Type": "application/json-patch+json"}
    for answer in (
        client.put("Patient/m3", json=numbered, headers=wish),
        client.post("Patient", json=numbered, headers={**wish, "If-None-Exist": "identifier=urn:x|m3"}),
        client.patch("Patient/m3", content=json.dumps(change), headers={**wish, **kind}),
        client.post("", json=bundle("transaction", ("PUT", "Patient/m3", {**numbered, "gender": "male"})), headers=wish),
        client.post("", json=bundle("batch", ("PUT", "Patient/m3", {**numbered, "gender": "other"})), headers=wish),
    ):
        assert answer.status_code in (200, 201), answer.text
        assert NUMBER not in answer.text
        assert MASKED in answer.text


async def test_no_notification_shows_the_number(server: Server) -> None:
    """A rest-hook with the resource; the search of the Subscription itself looks at the number as it is stored."""
    async with receiver() as hook:
        channel = {"type": "rest-hook", "endpoint": hook.url, "payload": "application/fhir+json"}
        criteria = f"Patient?identifier={RESIDENT}|{NUMBER}"
        asked = {
            "resourceType": "Subscription",
            "id": "s1",
            "status": "requested",
            "reason": "test",
            "criteria": criteria,
            "channel": channel,
        }
        numbered = patient(id="s2", telecom=PHONE, identifier=[{"system": RESIDENT, "value": NUMBER}])
        async with httpx.AsyncClient(base_url=server.base + "/", timeout=60) as client:
            assert (await client.put("Subscription/s1", json=asked)).status_code == 201
            assert (await client.put("Patient/s2", json=numbered)).status_code == 201
            await hook.wait(1, 20)
            await client.delete("Subscription/s1")
    (sent,) = hook.hits[:1]
    assert json.loads(sent.body)["identifier"] == [{"system": RESIDENT, "value": MASKED}]


def test_a_number_that_comes_back_masked_is_not_taken_for_new(client: httpx.Client, known: str) -> None:
    read = client.get("Patient/m1").json()
    assert read["identifier"][0]["value"] == MASKED
    assert client.put("Patient/m1", json={**read, "gender": "male"}).status_code == 200
    assert client.get(f"Patient?identifier={RESIDENT}|{NUMBER}&_id=m1").json()["total"] == 1


# --- operation, channel, commits


def test_its_operation_is_served_and_told_like_the_servers_own(server: Server, client: httpx.Client, known: str) -> None:
    assert client.get("Patient/m1/$initials").json()["parameter"] == [{"name": "return", "valueString": "SWK"}]
    assert client.get("Patient/nobody/$initials").status_code == 404
    assert client.post("Patient/m1/$initials").status_code == 405
    (rest,) = client.get("metadata").json()["rest"]
    (type,) = [one for one in rest["resource"] if one["type"] == "Patient"]
    assert "initials" in [one["name"] for one in type["operation"]]
    assert any("$initials" in path for path in client.get("openapi.json").json()["paths"])
    assert "$initials" in httpx.get(server.root + "/docs").text


def test_a_message_leaves_by_its_channel(client: httpx.Client, environment: dict[str, str]) -> None:
    client.put("Patient/l1", json=patient(id="l1", telecom=PHONE, address=[{"text": "花果山水帘洞"}]))
    request = {
        "resourceType": "CommunicationRequest", "id": "l2", "status": "active", "subject": {"reference": "Patient/l1"},
        "recipient": [{"reference": "Patient/l1"}], "payload": [{"contentString": "请于三月复诊"}],
    }  # fmt: skip
    assert client.put("CommunicationRequest/l2", json=request).status_code == 201
    (letter,) = eventually(lambda: list(Path(environment["EXAMPLE_LETTERS"]).glob("*.txt")))
    text = letter.read_text(encoding="utf-8")
    assert text.startswith("花果山水帘洞\n") and "请于三月复诊" in text


def test_commits_are_told_from_every_write_path(server: Server, client: httpx.Client) -> None:
    def told() -> list[dict[str, Any]]:
        lines = [line for line in server.log if "example: committed" in line]
        return [json.loads(line) for line in lines]

    begun = len(told())
    client.put("Patient/k1", json=patient(id="k1", telecom=PHONE))
    client.put("Patient/k1", json=patient(id="k1", telecom=PHONE))  # the same content: no version, nothing to tell
    client.post("Patient", json=patient())  # refused
    client.post(
        "",
        json=bundle(
            "transaction", *[("PUT", f"Basic/k{n}", {"resourceType": "Basic", "id": f"k{n}", "code": {"text": "x"}}) for n in range(3)]
        ),
    )
    client.delete("Patient/k1")
    with Peer(server) as peer:
        assert peer.send(admission("K1", "K1", phone="13800138000")).code == "AA"
    lines = eventually(lambda: len(told()) >= begun + 4 and told()[begun:])
    assert [(line["versions"], line["types"]) for line in lines[:3]] == [(1, ["Patient"]), (3, ["Basic"]), (1, ["Patient"])]
    assert "Patient" in lines[3]["types"] and "Provenance" in lines[3]["types"]


def test_without_the_plug_in_nothing_of_it_is_there(start: Callable[..., Server], environment: dict[str, str], server: Server) -> None:
    for value in ("off", ""):
        plain = start(env={**environment, "FHIR_SERVER_PLUGINS": value}, data_dir=server.data_dir.parent / f"plain{value}")
        with plain.client() as client:
            numbered = patient(id="n1", identifier=[{"system": RESIDENT, "value": NUMBER}])
            assert client.put("Patient/n1", json=numbered).status_code == 201
            assert NUMBER in client.get("Patient/n1").text
            assert client.get("Patient/n1/$initials").status_code == 404
