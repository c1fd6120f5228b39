"""The sample messages over the wire: each case's acknowledgements and resources as its expectations say; sent again, nothing changes.

Expectations: the corpus's `hl7v2-samples/cases`, made independently of this server.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.hl7v2.expectations import matches, values
from tests.hl7v2.support import Ack, Peer, found, patients, salt, versions

CASES = (
    "s01-adt-a01", "s02-his-discharge", "s03-lis-lipid", "s04-correction", "s05-orm", "s06-siu", "s07-unknown", "s08-no-pid",
)  # fmt: skip


@pytest.fixture(scope="module")
def samples(corpus: Path) -> Path:
    folder = corpus / "hl7v2-samples"
    if not folder.is_dir():
        pytest.skip(f"no sample messages at {folder}")
    return folder


def charset_of(file: str) -> str:
    return "gb18030" if "gb18030" in file else "utf-8"


def salted(path: Path, token: str) -> bytes:
    return path.read_bytes().replace(b"X9X9", token.encode())


def look(client: httpx.Client, patient: str, assertion: dict[str, Any]) -> None:
    """Check one assertion of a case."""
    who = patients(client, patient)
    assert len(who) == 1, f"{len(who)} Patients have {patient}"
    kind = assertion["resource"]
    rows = who if kind == "Patient" else found(client, kind, patient=f"Patient/{who[0]['id']}")

    def resolve(reference: str) -> dict[str, Any]:
        answer = client.get(reference)
        assert answer.status_code == 200, reference
        return json.loads(answer.text, parse_float=Decimal)

    rows = [row for row in rows if all(matches(values(row, path, resolve), wanted) for path, wanted in assertion.get("where", {}).items())]
    assert rows, f"no {kind} meets {assertion.get('where')}"
    if "count" in assertion:
        assert len(rows) == assertion["count"]
    for path, wanted in assertion.get("expect", {}).items():
        for row in rows:
            got = values(row, path, resolve)
            assert matches(got, wanted), f"{kind}.{path}: {got} instead of {wanted}"


def play(case: dict[str, Any], samples: Path, server: Server, client: httpx.Client, token: str) -> list[tuple[bytes, bytes]]:
    """Send a case's messages and check everything it expects; (message, acknowledgement) of each."""
    sent = []
    with Peer(server) as peer:
        for step in case["steps"]:
            message = salted(samples / "messages" / step["file"], token)
            ack = peer.send(message)
            sent.append((message, ack.raw))
            assert ack.code in step["ack"]["code"], ack.raw
            if "err" in step["ack"]:
                assert ack.error in step["ack"]["err"]
            for assertion in json.loads(json.dumps(step["after"]).replace("X9X9", token)):
                look(client, case["patient"].replace("X9X9", token), assertion)
    return sent


def test_all_cases_of_the_corpus_are_here(samples: Path) -> None:
    assert sorted(path.stem for path in (samples / "cases").glob("*.json")) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_sample_becomes_what_its_case_expects_and_sent_again_changes_nothing(
    name: str, samples: Path, server: Server, client: httpx.Client
) -> None:
    case = json.loads((samples / "cases" / f"{name}.json").read_text(encoding="utf-8"))
    sent = play(case, samples, server, client, salt())
    before = versions(client)
    with Peer(server) as peer:
        for message, first in [*sent, *sent[:1]]:
            again = peer.send(message)
            if Ack.of(first).code == "AA":
                assert again.raw == first
            else:
                assert (again.code, again.errors) == (Ack.of(first).code, Ack.of(first).errors)
    assert versions(client) == before


def test_gb18030_gives_the_right_chinese_characters_and_is_answered_in_gb18030(samples: Path, server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        peer.write(b"\x0b" + salted(samples / "messages" / "s02a_his_a01_gb18030.hl7", token) + b"\x1c\r")
        ack = Ack.of(peer.answer(), "gb18030")
    assert ack.code == "AA"
    assert ack.header[4:6] == ["HIS", "省医院"]
    assert ack.header[17] == "GB 18030-2000"
    (who,) = patients(client, f"S02{token}")
    assert who["name"] == [{"use": "official", "text": "孙桂英", "family": "孙", "given": ["桂英"]}]
    address = who["address"][0]
    assert (address["line"], address["city"], address["state"]) == (["凤起路12号"], "杭州市", "浙江省")
    (visit,) = found(client, "Encounter", patient=f"Patient/{who['id']}")
    assert visit["serviceProvider"]["display"] == "神经内科"
    (condition,) = found(client, "Condition", patient=f"Patient/{who['id']}")
    assert condition["code"]["text"] == "脑梗死"


def test_rare_characters_of_four_bytes_are_kept(server: Server, client: httpx.Client) -> None:
    token = salt()
    message = (
        f"MSH|^~\\&|HIS|H|FHIR|HM|20260115083000||ADT^A28|C{token}|P|2.4||||||GB18030\rEVN|A28\rPID|1||P{token}^^^H^MR||㐂^\U00020087䶮|\r"
    )
    raw = message.encode("gb18030")
    assert any(len(sign.encode("gb18030")) == 4 for sign in message)
    with Peer(server) as peer:
        assert peer.send(raw).code == "AA"
    (who,) = patients(client, f"P{token}")
    assert who["name"][0]["text"] == "㐂\U00020087䶮"


def test_bytes_that_are_delimiters_inside_a_gb18030_character_do_not_split_it(server: Server, client: httpx.Client) -> None:
    # Second bytes 0x5C, 0x5E, 0x7C, 0x7E: backslash, caret, bar and tilde to who splits before decoding.
    signs = [bytes([0x81, second]).decode("gb18030") for second in (0x5C, 0x5E, 0x7C, 0x7E)]
    token = salt()
    name = f"{signs[0]}{signs[1]}^{signs[2]}{signs[3]}"
    message = f"MSH|^~\\&|HIS|H|FHIR|HM|20260115||ADT^A28|C{token}|P|2.4||||||GB18030\rPID|1||P{token}^^^H^MR||{name}\r"
    with Peer(server) as peer:
        assert peer.send(message.encode("gb18030")).code == "AA"
    (who,) = patients(client, f"P{token}")
    assert (who["name"][0]["family"], who["name"][0]["given"]) == ("".join(signs[:2]), ["".join(signs[2:])])
