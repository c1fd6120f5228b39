"""Each message has its effect once: resent, copied on many connections, out of order, and across kill -9 of the server.

Specification: HL7 v2.5.1 chapter 2.9.2 (accept only what is stored); design: hl7v2, requirements 3, 8–10
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import SOAK, Server, start_server
from tests.hl7v2.support import Ack, Peer, admission, found, framed, header, of_patient, patients, result, salt, versions

ROUNDS = 25 if SOAK else 5


def together(server: Server, messages: list[str]) -> list[Ack]:
    """Send each message on a connection of its own, all at the same moment."""
    gate = threading.Barrier(len(messages))

    def send(message: str) -> Ack:
        with Peer(server) as peer:
            gate.wait()
            return peer.send(message)

    with ThreadPoolExecutor(len(messages)) as pool:
        return list(pool.map(send, messages))


def only_first_versions(resources: dict[str, list[dict]]) -> bool:
    return all(one["meta"]["versionId"] == "1" for rows in resources.values() for one in rows)


@pytest.mark.parametrize("make", [admission, result])
def test_eight_copies_at_once_have_one_effect_and_one_answer(make: Callable[[str, str], str], server: Server, client: httpx.Client) -> None:
    for _ in range(3):
        token = salt()
        answers = together(server, [make(f"A{token}", f"C{token}")] * 8)
        assert {ack.code for ack in answers} == {"AA"}
        assert len({ack.raw for ack in answers}) == 1
        there = of_patient(client, f"A{token}")
        assert {kind: len(rows) for kind, rows in there.items() if rows} == (
            {"Patient": 1, "Encounter": 1}
            if make is admission
            else {"Patient": 1, "Observation": 1, "DiagnosticReport": 1, "ServiceRequest": 1}
        )
        assert only_first_versions(there)


def test_two_messages_about_a_new_patient_at_once_make_one_patient(server: Server, client: httpx.Client) -> None:
    for _ in range(5):
        token = salt()
        answers = together(server, [admission(f"N{token}", f"C{token}"), result(f"N{token}", f"D{token}")] + [
            result(f"N{token}", f"E{at}{token}", filler=f"F{at}{token}") for at in range(4)
        ])  # fmt: skip
        assert {ack.code for ack in answers} == {"AA"}
        there = of_patient(client, f"N{token}")
        assert {kind: len(rows) for kind, rows in there.items() if rows} == {
            "Patient": 1, "Encounter": 1, "Observation": 5, "DiagnosticReport": 5, "ServiceRequest": 5,
        }  # fmt: skip


def test_messages_that_name_a_new_patient_by_other_identifiers_first_make_one_patient(server: Server, client: httpx.Client) -> None:
    for _ in range(5):
        token = salt()
        one, two = f"I{token}^^^CENTRAL^MR", f"K{token}^^^INSURANCE^MC"
        first = result("", f"C{token}", filler=f"F{token}", ids=f"{one}~{two}")
        second = result("", f"D{token}", filler=f"F{token}", ids=f"{two}~{one}", status="C")
        assert {ack.code for ack in together(server, [first, second])} == {"AA"}
        (who,) = patients(client, f"I{token}")
        assert patients(client, f"K{token}") == [who]
        there = of_patient(client, f"I{token}")
        assert (len(there["Observation"]), len(there["DiagnosticReport"])) == (1, 1)


def test_identifiers_of_two_patients_in_one_message_are_refused(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        for name in ("X", "Y"):
            assert peer.send(admission(f"{name}{token}", f"C{name}{token}", pv1=False)).code == "AA"
        before = versions(client)
        ack = peer.send(admission("", f"D{token}", ids=f"X{token}^^^CENTRAL^MR~Y{token}^^^CENTRAL^MR"))
        assert (ack.code, ack.error, ack.place) == ("AE", "204", "PID-3")
        assert versions(client) == before


def test_a_control_id_used_again_for_another_content_is_refused(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        first = peer.send(admission(f"R{token}", f"C{token}", pv1=False))
        before = versions(client)
        ack = peer.send(admission(f"R{token}", f"C{token}", name="Other^Name", pv1=False))
        assert (ack.code, ack.error, ack.place) == ("AE", "205", "MSH-10")
        assert versions(client) == before
        assert peer.send(admission(f"R{token}", f"C{token}", pv1=False)).raw == first.raw


def test_a_refused_message_may_come_again_corrected_under_its_control_id(server: Server, client: httpx.Client) -> None:
    token = salt()
    good = admission(f"F{token}", f"C{token}", pv1=False)
    with Peer(server) as peer:
        assert peer.send(good.replace(f"F{token}^^^CENTRAL^MR", "")).code == "AE"
        assert peer.send(good).code == "AA"
    assert len(patients(client, f"F{token}")) == 1


def test_the_same_content_under_a_new_control_id_makes_no_new_versions(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(result(f"S{token}", f"C{token}")).code == "AA"
        assert peer.send(result(f"S{token}", f"D{token}")).code == "AA"
    assert only_first_versions(of_patient(client, f"S{token}"))


def test_an_update_that_comes_before_its_admission_is_not_set_back_by_it(server: Server, client: httpx.Client) -> None:
    token = salt()
    late = admission(f"O{token}", f"C{token}", name="Meyer^Old", when="20260115083000").replace("M\rPV1", "M|||Lindenweg 4^^Bonn\rPV1")
    with Peer(server) as peer:
        assert peer.send(admission(f"O{token}", f"D{token}", event="A08", name="Meyer^New", when="20260115120000")).code == "AA"
        assert peer.send(late).code == "AA"
    there = of_patient(client, f"O{token}")
    assert (len(there["Patient"]), len(there["Encounter"])) == (1, 1)
    (who,), (visit,) = there["Patient"], there["Encounter"]
    assert who["name"][0]["given"] == ["New"]
    assert who["address"][0]["city"] == "Bonn", "what only the older message knows is added"
    assert visit["status"] == "in-progress"


def test_an_admission_that_comes_after_the_discharge_does_not_open_the_visit_again(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(admission(f"P{token}", f"C{token}", event="A03", when="20260118100000")).code == "AA"
        assert peer.send(admission(f"P{token}", f"D{token}", when="20260115083000")).code == "AA"
        (visit,) = of_patient(client, f"P{token}")["Encounter"]
        assert (visit["status"], visit["period"]["end"]) == ("finished", "2026-01-18T10:00:00+08:00")
        # A discharge that was told earlier than a later update still ends the visit, and A13 opens it again.
        assert peer.send(admission(f"P{token}", f"E{token}", event="A13", when="20260119080000")).code == "AA"
    (visit,) = of_patient(client, f"P{token}")["Encounter"]
    assert visit["status"] == "in-progress"
    assert "end" not in visit["period"]


def test_a_late_discharge_ends_the_visit_all_the_same(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        for control, event, when in (("C", "A01", "20260115083000"), ("D", "A08", "20260119080000"), ("E", "A03", "20260118100000")):
            assert peer.send(admission(f"D{token}", f"{control}{token}", event=event, when=when)).code == "AA"
    (visit,) = of_patient(client, f"D{token}")["Encounter"]
    assert visit["status"] == "finished"


def test_a_correction_of_one_result_keeps_the_others_of_its_report(server: Server, client: httpx.Client) -> None:
    token = salt()
    rows = ("NM|2823-3^Potassium^LN||7.1|mmol/L|3.5-5.3|↑|||F", "NM|2951-2^Sodium^LN||139|mmol/L|137-147||||F")
    with Peer(server) as peer:
        assert peer.send(result(f"V{token}", f"C{token}", *rows)).code == "AA"
        corrected = "NM|2823-3^Potassium^LN||4.1|mmol/L|3.5-5.3||||C"
        assert peer.send(result(f"V{token}", f"D{token}", corrected, status="C")).code == "AA"
    there = of_patient(client, f"V{token}")
    (report,) = there["DiagnosticReport"]
    assert len(report["result"]) == 2
    by_code = {one["code"]["coding"][0]["code"]: one for one in there["Observation"]}
    potassium = by_code["2823-3"]
    assert (potassium["status"], potassium["valueQuantity"]["value"], potassium["meta"]["versionId"]) == ("corrected", 4.1, "2")
    assert "interpretation" not in potassium, "no arrow of the value before is left"
    assert by_code["2951-2"]["meta"]["versionId"] == "1"


def test_a_result_of_another_sender_finds_the_visit_though_it_leaves_its_authority_out(server: Server, client: httpx.Client) -> None:
    token = salt()
    visit = "PV1|1|I" + "|" * 17 + f"VB{token}\r"
    with Peer(server) as peer:
        assert peer.send(admission(f"B{token}", f"C{token}")).code == "AA"
        assert peer.send(result(f"B{token}", f"D{token}").replace("OBR|", visit + "OBR|", 1)).code == "AA"
    there = of_patient(client, f"B{token}")
    (encounter,) = there["Encounter"]
    assert there["Observation"][0]["encounter"]["reference"] == f"Encounter/{encounter['id']}"


def test_changes_over_fhir_between_two_messages_are_seen_and_kept(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(admission(f"G{token}", f"C{token}", pv1=False)).code == "AA"
        (who,) = patients(client, f"G{token}")
        changed = client.put(f"Patient/{who['id']}", json={**who, "photo": [{"url": "http://example.org/p.png"}]})
        assert changed.status_code == 200
        assert peer.send(admission(f"G{token}", f"D{token}", event="A08", name="Meyer^Paula", pv1=False, when="20260116")).code == "AA"
    (who,) = patients(client, f"G{token}")
    assert who["photo"] == [{"url": "http://example.org/p.png"}]
    assert (who["name"][0]["given"], who["meta"]["versionId"]) == (["Paula"], "3")


def test_a_patient_made_over_fhir_is_found_by_identifier(server: Server, client: httpx.Client) -> None:
    token = salt()
    made = client.post("Patient", json={"resourceType": "Patient", "identifier": [{"system": "urn:id:CENTRAL", "value": f"H{token}"}]})
    assert made.status_code == 201
    with Peer(server) as peer:
        assert peer.send(result(f"H{token}", f"C{token}")).code == "AA"
    there = of_patient(client, f"H{token}")
    assert there["Patient"][0]["id"] == made.json()["id"]
    assert len(there["Observation"]) == 1


def test_a_patient_deleted_over_fhir_comes_back_with_the_next_message(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(admission(f"J{token}", f"C{token}", pv1=False)).code == "AA"
        assert client.delete(f"Patient/{patients(client, f'J{token}')[0]['id']}").status_code in (200, 204)
        assert peer.send(result(f"J{token}", f"D{token}")).code == "AA"
    assert len(patients(client, f"J{token}")) == 1


def test_messages_and_changes_over_fhir_at_the_same_time_lose_nothing(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(admission(f"L{token}", f"C{token}", pv1=False)).code == "AA"
    id = patients(client, f"L{token}")[0]["id"]
    applied = 0

    def edit() -> None:
        nonlocal applied
        with server.client() as http:
            for at in range(30):
                now = http.get(f"Patient/{id}")
                body = now.json()
                body.setdefault("communication", []).append({"language": {"text": f"L{at}"}})
                answer = http.put(f"Patient/{id}", json=body, headers={"If-Match": now.headers["etag"]})
                applied += answer.status_code == 200

    editor = threading.Thread(target=edit)
    editor.start()
    with Peer(server) as peer:
        for at in range(30):
            when = f"20260116{at // 6:02d}{at % 6}000"
            message = admission(f"L{token}", f"D{at}{token}", event="A08", name=f"Meyer^P{at}", pv1=False, when=when)
            assert peer.send(message).code == "AA"
    editor.join()
    (who,) = patients(client, f"L{token}")
    assert applied
    assert len(who["communication"]) == applied
    assert int(who["meta"]["versionId"]) == 1 + 30 + applied


# --- kill -9


def plan(token: str, people: int, each: int) -> list[list[str]]:
    """For every sender its messages in order: admissions, results, corrections, discharges."""
    senders = []
    for who in range(people):
        number, out = f"K{who}{token}", []
        out.append(admission(number, f"{number}-A01"))
        for at in range(each):
            filler = f"F{who}-{at}{token}"
            out.append(
                result(number, f"{number}-R{at}", "NM|2823-3^K^LN||3.1|mmol/L|||||P", "ST|X^Y^L||a||||||P", filler=filler, status="P")
            )
            out.append(result(number, f"{number}-C{at}", "NM|2823-3^K^LN||4.4|mmol/L|||||F", "ST|X^Y^L||b||||||F", filler=filler))
        out.append(admission(number, f"{number}-A03", event="A03", when="20260118100000"))
        senders.append(out)
    return senders


class Resender(threading.Thread):
    """Sends its messages in order; what is not acknowledged it sends again, to whatever server is there."""

    def __init__(self, messages: list[str], where: Callable[[], Server | None]) -> None:
        super().__init__(daemon=True)
        self.messages, self.where = messages, where
        self.acknowledged: list[str] = []
        self.refused: list[bytes] = []

    def run(self) -> None:
        peer, at = None, 0
        while at < len(self.messages):
            try:
                if peer is None:
                    server = self.where()
                    if server is None:
                        time.sleep(0.02)
                        continue
                    peer = Peer(server, 10)
                ack = peer.send(self.messages[at])
            except (OSError, EOFError):
                peer = None
                time.sleep(0.02)
                continue
            if ack.code == "AA":
                self.acknowledged.append(ack.control)
                at += 1
            elif ack.errors and ack.error == "207":
                time.sleep(0.05)
            else:
                self.refused.append(ack.raw)
                at += 1


@pytest.mark.longer
def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    draw, token = random.Random(5), salt()
    people, each = 6, 150 if SOAK else 30
    senders = plan(token, people, each)
    current: Server | None = None
    threads = [Resender(messages, lambda: current) for messages in senders]
    for thread in threads:
        thread.start()
    whole = sum(map(len, senders))

    def acknowledged_so_far() -> int:
        return sum(len(thread.acknowledged) for thread in threads)

    # The kills hang on the traffic, not on the clock: on a fast machine too each falls among messages, and the last server gets some.
    for _ in range(ROUNDS):
        running = start_server(tmp_path / "data", "--mllp-port", "0")
        enough, last_moment = acknowledged_so_far() + draw.randrange(whole // (2 * ROUNDS)), time.monotonic() + 20
        current = running
        while acknowledged_so_far() < enough and time.monotonic() < last_moment:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        current = None
        running.kill()
    assert 0 < acknowledged_so_far() < whole, "the kills fell into the traffic"
    last = current = start_server(tmp_path / "data", "--mllp-port", "0")
    try:
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
            assert thread.refused == []
        acknowledged = [control for thread in threads for control in thread.acknowledged]
        assert len(acknowledged) == whole
        with last.client() as client:
            sources = Counter(one["meta"]["source"].partition("#")[2] for one in found(client, "Provenance"))
            assert sources == Counter(acknowledged), "every message has its effect exactly once"
            for who in range(people):
                there = of_patient(client, f"K{who}{token}")
                counts = {kind: len(rows) for kind, rows in there.items() if rows}
                assert counts == {
                    "Patient": 1, "Encounter": 1, "Observation": 2 * each, "DiagnosticReport": each, "ServiceRequest": each,
                }  # fmt: skip
                assert {one["status"] for one in there["Observation"]} == {"final"}
                assert {one["meta"]["versionId"] for one in there["Observation"]} == {"2"}
                assert [(one["status"], one["meta"]["versionId"]) for one in there["Encounter"]] == [("finished", "2")]
            before = versions(client)
            with Peer(last) as peer:
                for messages in senders:
                    assert peer.send(messages[0]).code == "AA"
            assert versions(client) == before, "the claims outlive the kills"
    finally:
        last.kill()


def test_sigterm_acknowledges_what_is_in_flight(start: Callable[..., Server]) -> None:
    server, token = start("--mllp-port", "0"), salt()
    peers = [Peer(server) for _ in range(8)]
    for at, peer in enumerate(peers):
        peer.write(b"".join(framed(result(f"T{at}{token}", f"C{at}-{n}{token}", filler=f"F{at}-{n}{token}")) for n in range(40)))
    time.sleep(0.15)
    assert server.stop() == 0
    acknowledged = []
    for peer in peers:
        try:
            while True:
                ack = Ack.of(peer.answer())
                assert ack.code == "AA"
                acknowledged.append(ack.control)
        except (EOFError, ConnectionError):
            continue
    assert acknowledged
    again = start("--mllp-port", "0", data_dir=server.data_dir)
    with again.client() as client:
        stored = {one["meta"]["source"].partition("#")[2] for one in found(client, "DiagnosticReport")}
    assert set(acknowledged) <= stored


def test_a_message_that_deletes_a_field_and_one_that_leaves_it_empty(server: Server, client: httpx.Client) -> None:
    token = salt()

    def person(control: str, phone: str) -> str:
        return f"{header('ADT^A08', control + token)}\rPID|1||E{token}^^^CENTRAL^MR||Meyer^Paul||19710930|M|||||{phone}\r"

    with Peer(server) as peer:
        for control, phone, kept in (("1", "13800001111", True), ("2", "", True), ("3", '""', False)):
            assert peer.send(person(control, phone)).code == "AA"
            assert ("telecom" in patients(client, f"E{token}")[0]) is kept
