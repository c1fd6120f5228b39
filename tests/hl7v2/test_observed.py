"""What operators see: counters by type and outcome, the journal on the console, and logs without personal data."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from fhir_server.validation.structure import check
from tests.conftest import Server
from tests.hl7v2.support import START, Peer, admission, found, header, result, salt


def counters(server: Server) -> dict[tuple[str, str], float]:
    """hl7v2_messages_total by (type, outcome)."""
    text = httpx.get(server.root + "/metrics").text
    rows = re.findall(r'^hl7v2_messages_total\{outcome="([^"]*)",type="([^"]*)"\} (\S+)$', text, re.M)
    rows += [(b, a, n) for a, b, n in re.findall(r'^hl7v2_messages_total\{type="([^"]*)",outcome="([^"]*)"\} (\S+)$', text, re.M)]
    return {(type, outcome): float(number) for outcome, type, number in rows}


def test_messages_are_counted_by_type_and_outcome(start: Callable[..., Server]) -> None:
    server, token = start("--mllp-port", "0"), salt()
    with Peer(server) as peer:
        for _ in range(3):
            peer.send(admission(f"M{token}", f"C{token}"))
        peer.send(result(f"M{token}", f"D{token}"))
        peer.send(result("", f"E{token}"))
        for event in ("A97", "A98", "A99"):
            peer.send(admission("M1", f"F{event}", event=event))
        peer.send("nothing of HL7")
    assert counters(server) == {
        ("ADT^A01", "AA"): 1, ("ADT^A01", "duplicate"): 2, ("ORU^R01", "AA"): 1, ("ORU^R01", "AE"): 1, ("other", "AR"): 4,
    }  # fmt: skip
    text = httpx.get(server.root + "/metrics").text
    assert re.search(r"^hl7v2_message_duration_seconds_count 9(\.0)?$", text, re.M)


def test_the_journal_has_every_answered_message(start: Callable[..., Server]) -> None:
    server, token = start("--mllp-port", "0"), salt()
    with Peer(server) as peer:
        good = admission(f"J{token}", f"C{token}")
        peer.send(good)
        peer.send(good)
        peer.send(header("ORU^R01", f"D{token}") + "\r")
        peer.write(START + b"MSH|^~\\&|cut")
    rows = httpx.get(server.root + "/console/changes").json()["messages"]
    assert [(row["control_id"], row["status"], row["ack"]) for row in rows] == [
        (f"C{token}", "processed", "AA"), (f"C{token}", "duplicate", "AA"), (f"D{token}", "dead", "AE"),
    ]  # fmt: skip
    full = httpx.get(f"{server.root}/console/messages/{rows[0]['id']}").json()
    assert "\r".join(full["message"]) == good
    assert full["patient_ids"] == [f"J{token}"]
    with server.client() as client:
        for reference in full["resources"]:
            assert client.get(reference).status_code == 200
        assert {one.partition("/")[0] for one in full["resources"]} >= {"Patient", "Encounter", "Practitioner"}


def test_what_a_message_wrote_says_where_it_comes_from(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(result(f"W{token}", f"C{token}")).code == "AA"
    rows = [one for one in found(client, "Provenance") if one["meta"]["source"].endswith(f"#C{token}")]
    (provenance,) = rows
    check(provenance)
    targets = [one["reference"] for one in provenance["target"]]
    assert {one.partition("/")[0] for one in targets} == {"Patient", "Observation", "DiagnosticReport", "ServiceRequest"}
    for target in targets:
        assert client.get(target).json()["meta"]["source"] == f"urn:hl7v2:LIS#C{token}"
    assert provenance["agent"][0]["who"]["display"] == "LIS CENTRAL"


def test_no_name_and_no_number_of_a_person_gets_into_the_log(start: Callable[..., Server], corpus: Path) -> None:
    server = start("--mllp-port", "0")
    messages = [path.read_bytes() for path in sorted((corpus / "hl7v2-samples" / "messages").iterdir())]
    person = "S02X9X9^^^HIS^PI~330102195811230021^^^PRC^NI"
    messages += [
        messages[1].replace(b"ADT^A01", b"ADT^A99"),
        messages[0].replace(b"S01X9X9|P", b"|P"),
        messages[0].replace(b"Meyer", b"Me\x01yer"),
        messages[0].replace(b"|ADT^A01^ADT_A01|S01X9X9|", b"|ADT^A01^ADT_A01|Z1|").replace(b"MSH|^~\\&", b"MSH|^~~&"),
        admission("", "Z2", ids=person, name="孙^桂英").encode(),
        admission("", "Z2", ids=person, name="孙^桂英").replace("Meyer", "Other").encode("gb18030"),
    ]
    with Peer(server) as peer:
        for message in messages:
            peer.write(START + message + b"\x1c\r")
            peer.answer()
        peer.write(START + messages[0][:200])
    time.sleep(0.5)
    server.stop()
    log = "".join(server.log)
    assert "ready" in log
    secrets = [
        "Meyer",
        "Paul",
        "孙",
        "桂英",
        "330102195811230021",
        "13600001111",
        "凤起路",
        "Lindenweg",
        "朱",
        "自强",
        "Moreau",
        "Rossi",
        "金",
        "大川",
    ]
    secrets += [f"S0{n}X9X9" for n in range(1, 9)] + ["ZYS02X9X9", "S01VX9X9", "脑梗死", "Penicillin"]
    assert [one for one in secrets if one in log or one.encode("unicode_escape").decode() in log] == []


def test_a_fault_of_the_program_is_answered_207_and_logged_without_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    from fhir_server.app import compose
    from fhir_server.settings import Settings
    from integrations.hl7v2 import pipeline

    def broken(keys: object) -> None:
        raise ValueError("Meyer^Paul of 13600001111")

    monkeypatch.setattr(pipeline, "stable_id", broken)

    async def run() -> bytes:
        app = await compose(Settings(data_dir=tmp_path / "data", mllp_port="off"), 0)
        context = app.context
        try:
            handler = pipeline.Pipeline(context.gate, app.store, context.search, context.zone)
            return await handler.handle(admission("P1", "C1").encode())
        finally:
            await app.stop()

    answer = asyncio.run(run()).decode()
    assert "MSA|AE|C1" in answer
    assert "|207^" in answer
    logged = "".join(capfd.readouterr())
    assert "could not be processed" in logged
    for text in (answer, logged):
        assert not any(one in text for one in ("Meyer", "Paul", "13600001111"))
