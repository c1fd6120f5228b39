"""$purge: nothing of a record is left, over the wire and in the files, but that it was erased. https://hl7.org/fhir/6.0.0-ballot3/patient-operation-purge.html"""

from __future__ import annotations

import base64
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx

from tests.storage.sqlite.invariants import RULES, faults
from tests.subscriptions.test_topic_subscriptions import asked, encounter, topic
from tests.subscriptions.test_wire import hook, wait_for
from tests.wire.resources import outcome, unique

__all__ = ["hook"]

FINAL = {"status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]}}


def observation(of: str, note: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "subject": {"reference": f"Patient/{of}"}, "note": [{"text": note}], **FINAL, **more}


def put(client: httpx.Client, type: str, id: str, **content: Any) -> None:
    answer = client.put(f"{type}/{id}", json={"resourceType": type, "id": id, **content})
    assert answer.status_code in (200, 201), answer.text


def record(client: httpx.Client, id: str, secret: str) -> dict[str, str]:
    """A patient with results (one changed, one deleted), a document with its Binary, and a group with another patient."""
    put(client, "Patient", id, name=[{"family": f"{secret}first"}])
    put(client, "Patient", id, name=[{"family": f"{secret}second"}])
    put(client, "Patient", f"{id}-other", name=[{"family": "Other"}])
    made = {}
    for name in ("kept", "gone"):
        made[name] = client.post("Observation", json=observation(id, f"{secret}note {name}")).json()["id"]
    put(client, "Observation", made["kept"], **{k: v for k, v in observation(id, f"{secret}note again").items() if k != "resourceType"})
    assert client.delete(f"Observation/{made['gone']}").status_code in (200, 204)
    data = base64.b64encode(f"{secret}scan".encode()).decode()
    made["binary"] = client.post("Binary", json={"resourceType": "Binary", "contentType": "text/plain", "data": data}).json()["id"]
    attachment = {"attachment": {"contentType": "text/plain", "url": f"Binary/{made['binary']}"}}
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": f"Patient/{id}"},
        "content": [attachment],
    }
    made["document"] = client.post("DocumentReference", json=document).json()["id"]
    members = [{"entity": {"reference": f"Patient/{one}"}} for one in (id, f"{id}-other")]
    group = {"resourceType": "Group", "type": "person", "actual": True, "member": members}
    made["group"] = client.post("Group", json=group).json()["id"]
    made["other"] = client.post("Observation", json=observation(f"{id}-other", "of the other")).json()["id"]
    return made


def test_all_of_a_patients_record_is_gone_everywhere_and_an_audit_event_says_so(client) -> None:
    id, secret = unique("p"), unique("Zq")
    made = record(client, id, secret)
    answer = client.post(f"Patient/{id}/$purge")
    assert answer.status_code == 200, answer.text
    told = answer.json()["issue"]
    # Patient 2 versions, kept 2, gone 1 and its deletion stays, document 1, binary 1.
    assert told[0]["diagnostics"].startswith(f"Patient/{id}: 5 resources with 7 versions were erased")
    assert f"Group/{made['group']}" in told[1]["diagnostics"] and len(told) == 2
    gone = [
        f"Patient/{id}",
        f"Observation/{made['kept']}",
        f"Observation/{made['gone']}",
        f"DocumentReference/{made['document']}",
        f"Binary/{made['binary']}",
    ]
    for place in gone:
        outcome(client.get(place), 410, "deleted")
        assert client.get(f"{place}/_history/1").status_code == 404
        history = client.get(f"{place}/_history").json()
        assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE"] and history["total"] == 1
    assert client.get(f"Patient/{id}/$everything").status_code == 410
    for query in (
        f"Observation?subject=Patient/{id}",
        f"Observation?patient={id}",
        f"Patient?family={secret}first",
        f"Patient?family={secret}second",
        f"Observation?subject:Patient.family={secret}second",
        f"DocumentReference?patient={id}",
    ):
        assert client.get(query).json()["total"] == 0, query
    other = f"Patient?_has:Observation:subject:code=2823-3&_id={id},{id}-other"
    assert [entry["resource"]["id"] for entry in client.get(other).json()["entry"]] == [f"{id}-other"]
    assert secret not in client.get("_history?_count=1000").text
    assert client.get(f"Observation/{made['other']}").status_code == client.get(f"Group/{made['group']}").status_code == 200
    found = client.get(f"AuditEvent?entity=Patient/{id}").json()
    (entry,) = found["entry"]
    event = entry["resource"]
    assert event["action"] == "D" and event["agent"][0]["altId"] and event["recorded"]
    assert event["entity"][0]["lifecycle"]["code"] == "14"
    detail = {one["type"]: one["valueString"] for one in event["entity"][0]["detail"]}
    assert detail == {"Patient": "1", "Observation": "2", "DocumentReference": "1", "Binary": "1"}
    assert secret not in str(event)
    # The address can be used again, and is another version than any that was.
    put(client, "Patient", id)
    assert client.get(f"Patient/{id}").json()["meta"]["versionId"] == "4"


def test_a_purge_is_repeatable_and_the_audit_event_of_the_first_stays(client) -> None:
    id = unique("p")
    put(client, "Patient", id)
    for _ in range(2):
        assert client.post(f"Patient/{id}/$purge").status_code == 200
    assert client.get(f"AuditEvent?entity=Patient/{id}").json()["total"] == 2


def test_another_type_is_erased_by_itself(client) -> None:
    id = unique("p")
    put(client, "Patient", id)
    made = client.post("Observation", json=observation(id, "x")).json()["id"]
    assert client.post(f"Observation/{made}/$purge").status_code == 200
    assert client.get(f"Observation/{made}").status_code == 410 and client.get(f"Patient/{id}").status_code == 200


def test_what_cannot_be_erased_is_refused_in_both_languages(client) -> None:
    id = unique("p")
    put(client, "Patient", id)
    client.post(f"Patient/{id}/$purge")
    audit = client.get(f"AuditEvent?entity=Patient/{id}").json()["entry"][0]["resource"]["id"]
    for place, status, text, zh in (
        (f"AuditEvent/{audit}/$purge", 405, "Audit records are not erased", "审计记录不能清除"),
        (f"Patient/{unique('no')}/$purge", 404, "is not known", "没有 Patient"),
        (f"Patient/{id}/$purge?_cascade=delete", 400, "_cascade", "不支持参数"),
    ):
        assert text in outcome(client.post(place), status)
        said = client.post(place, headers={"Accept-Language": "zh"}).text
        assert zh in said, said
    assert client.get(f"Patient/{id}/$purge").status_code == 405
    assert client.get(f"AuditEvent/{audit}").status_code == 200


def test_nothing_of_it_lies_in_the_files(server, client) -> None:
    """Texts and index rows stand there as they are, bodies packed: the bytes of each are looked for."""
    id, secret = unique("p"), unique("Zq")
    for number in range(60):  # neighbours, so that pages are split and merged
        put(
            client,
            "Patient",
            f"{id}n{number}",
            name=[{"family": f"Neighbour{number}"}],
            text={"status": "generated", "div": f"<div xmlns='http://www.w3.org/1999/xhtml'>{'x' * 900}{number}</div>"},
        )
    record(client, id, secret)
    assert client.get(f"Patient?_content={secret}second").json()["total"] == 1
    path = server.data_dir / "fhir.db"
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = db.execute("SELECT body FROM version v JOIN type t ON t.number = v.type WHERE v.id = ? OR t.name = 'Binary'", (id,)).fetchall()
    db.close()
    bodies = [body[len(body) // 2 :][:40] for (body,) in rows if len(body) > 60]
    assert len(bodies) >= 3
    needles = [secret.lower().encode(), secret.encode(), *bodies]

    def found() -> set[bytes]:
        there = b"".join(one.read_bytes() for one in Path(server.data_dir).iterdir() if one.is_file())
        return {needle for needle in needles if needle in there}

    assert found() == set(needles)
    answer = client.post(f"Patient/{id}/$purge")
    assert answer.status_code == 200 and "incomplete" not in answer.text, answer.text
    for one in client.get("Binary?_count=100").json().get("entry", ()):
        client.post(f"Binary/{one['resource']['id']}/$purge")
    assert found() == set()


def test_a_reader_of_an_earlier_state_is_told_of(server, client) -> None:
    id = unique("p")
    put(client, "Patient", id)
    db = sqlite3.connect(f"file:{server.data_dir / 'fhir.db'}?mode=ro", uri=True, isolation_level=None)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM version").fetchone()
    answer = client.post(f"Patient/{id}/$purge").json()
    assert [issue["code"] for issue in answer["issue"]] == ["informational", "incomplete"]
    db.execute("COMMIT")
    db.close()
    log = server.data_dir / "fhir.db-wal"
    deadline = time.monotonic() + 20
    while log.stat().st_size and time.monotonic() < deadline:
        put(client, "Patient", unique("after"))
        time.sleep(0.1)
        if log.stat().st_size < 200_000:
            break
    assert log.stat().st_size < 200_000


def test_the_store_is_sound_after_purges(start, tmp_path) -> None:
    server = start(data_dir=tmp_path / "data")
    with server.client() as client:
        for number in range(3):
            record(client, f"p{number}", f"S{number}")
        for number in range(2):
            assert client.post(f"Patient/p{number}/$purge").status_code == 200
        assert client.get("Observation?patient=p2").json()["total"] == 1
    server.stop()
    excused = "a gap in the versions of a resource"
    assert excused in RULES
    assert [one for one in faults(tmp_path / "data" / "fhir.db") if not one.startswith(excused)] == []


def test_a_kept_event_of_a_subscription_no_longer_shows_it(server, client, hook) -> None:
    id, secret = unique("p"), unique("Zs")
    url = f"http://example.org/SubscriptionTopic/{id}"
    client.put(f"Basic/{id}", json=topic(id, url)).raise_for_status()
    endpoint = f"http://127.0.0.1:{hook.server_port}/hook"
    made = asked(endpoint, "full-resource", criteria=url, id=id, filters=(f"Encounter?patient=Patient/{id}",))
    client.put(f"Subscription/{id}", json=made).raise_for_status()
    wait_for(lambda: client.get(f"Subscription/{id}").json()["status"] == "active")
    put(client, "Patient", id)
    visit = encounter(f"{id}v", patient=id, identifier=[{"value": secret}])
    client.put(f"Encounter/{id}v", json=visit).raise_for_status()
    wait_for(lambda: any(secret.encode() in body for _, _, _, body in hook.hits))
    assert secret in client.get(f"Subscription/{id}/$events").text
    assert client.post(f"Patient/{id}/$purge").status_code == 200
    again = client.get(f"Subscription/{id}/$events")
    assert again.status_code == 200 and secret not in again.text
    assert not any("resource" in entry for entry in again.json()["entry"][1:])
    # The same address with other content later is not what the event was about.
    client.put(f"Encounter/{id}v", json=encounter(f"{id}v", status="in-progress", patient=id)).raise_for_status()
    assert "in-progress" not in client.get(f"Subscription/{id}/$events").text
    # The feed goes on behind deletions whose versions before are gone.
    client.put(f"Encounter/{id}w", json=encounter(f"{id}w", patient=id)).raise_for_status()
    wait_for(lambda: any(f"{id}w".encode() in body for _, _, _, body in hook.hits))
    assert not [line for line in server.log if "stumbled" in line or "Traceback" in line]
    client.put(f"Subscription/{id}", json={**made, "status": "off"}).raise_for_status()
