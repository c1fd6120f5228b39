"""Messages of other projects, and mutated ones: mapped to valid resources or refused with a reason; nothing else ever escapes."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import FhirError
from fhir_server.validation.structure import check
from integrations.hl7v2 import ack
from integrations.hl7v2.charset import decode
from integrations.hl7v2.errors import TEXTS, Refusal
from integrations.hl7v2.mapping import Mapping
from integrations.hl7v2.maps import HANDLERS
from integrations.hl7v2.message import Message
from tests.conftest import SOAK
from tests.hl7v2.pure import mapped

FUZZED = 20_000 if SOAK else 4_000


@pytest.fixture(scope="module")
def messages(corpus: Path) -> list[dict[str, Any]]:
    file = corpus / "hl7v2" / "messages.jsonl.gz"
    if not file.exists():
        pytest.skip(f"no messages at {file}")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def outcome(raw: bytes) -> Mapping | Refusal | FhirError:
    """As the pipeline judges a message where nothing is stored; anything but a refusal escapes and fails the test."""
    try:
        text, _, _ = decode(raw)
        mapping = mapped(text)
        for resource in mapping.resources.values():
            check(resource)
    except (Refusal, FhirError) as refusal:
        return refusal
    return mapping


def rows_of(text: str) -> list[list[str]]:
    """The segments, split by hand."""
    lines = [line.lstrip() for line in text.replace("\n", "\r").split("\r") if line.strip()]
    return [line.split(lines[0][3:4] or "|") for line in lines]


def cell(row: list[str], number: int) -> str:
    """A field; MSH-1 is the separator itself."""
    at = number - 1 if row[0] == "MSH" else number
    return row[at] if len(row) > at else ""


def sound(text: str) -> bool:
    """Whether the parts are there without which a message of a served type cannot be filed."""
    rows = rows_of(text)
    head = rows[0]
    if head[0] != "MSH" or head[1] != "^~\\&" or not cell(head, 10) or any(len(row[0]) != 3 or not row[0].isalnum() for row in rows):
        return False
    kind, event = [*cell(head, 9).split("^"), ""][:2]
    if event not in HANDLERS.get(kind, ()) or (cell(head, 12) and cell(head, 12)[:4] not in {f"2.{n}" for n in range(1, 9)} | VERSIONS):
        return False
    pid = next((row for row in rows if row[0] == "PID"), None)
    if pid is None or not cell(pid, 3).split("^")[0].strip():
        return False
    names = [row[0] for row in rows]
    if kind == "ORU":
        tests = [row for row in rows if row[0] == "OBX"]
        first = [name for name in names if name in ("OBR", "OBX")]
        return first[:1] == ["OBR"] and all(cell(row, 3).strip("^ ") for row in tests)
    if kind in ("ORM", "OML"):
        order = next((row for row in rows if row[0] == "ORC"), ["ORC"])
        requests = [row for row in rows if row[0] == "OBR"]
        numbered = all(cell(row, 2) or cell(row, 3) or cell(order, 2) or cell(order, 3) for row in requests)
        return bool(requests) and numbered and all(cell(row, 4) for row in requests)
    return kind != "SIU" or "SCH" in names


VERSIONS = {"2.3.1", "2.5.1", "2.7.1", "2.8.1", "2.8.2"}


def test_each_message_is_mapped_or_refused_with_a_reason(messages: list[dict[str, Any]]) -> None:
    assert len(messages) == 316
    results: Counter[str] = Counter()
    for row in messages:
        found = outcome(row["message"].encode())
        assert not isinstance(found, FhirError), f"{row['id']}: an invalid resource was made: {found.issues}"
        if isinstance(found, Refusal):
            assert not sound(row["message"]), f"{row['id']} is refused: {found.text}"
            assert found.code in ("AE", "AR"), row["id"]
            assert found.error in TEXTS, row["id"]
            assert found.location, row["id"]
            assert len(found.text) > 10, row["id"]
            results["refused"] += 1
        else:
            assert any(kind == "Patient" for kind, _ in found.resources), row["id"]
            results["mapped"] += 1
    assert results["mapped"] > 60


def test_no_report_and_no_result_of_a_message_is_lost(messages: list[dict[str, Any]]) -> None:
    seen = 0
    for row in messages:
        found = outcome(row["message"].encode())
        if not isinstance(found, Mapping) or not row["type"].startswith("ORU"):
            continue
        reports, tests, at = set(), 0, ""
        texts: set[tuple[str, str, str]] = set()
        for line in rows_of(row["message"]):
            if line[0] == "OBR":
                at = cell(line, 3).split("^")[0] or cell(line, 2).split("^")[0] or cell(line, 4) + cell(line, 7)
                reports.add((at, cell(line, 4).split("^")[0]))
            elif line[0] == "OBX":
                key = (at, cell(line, 3).split("^")[0] or cell(line, 3), cell(line, 4))
                # Lines of one text make one result.
                tests += not (cell(line, 2) in ("ST", "TX", "FT") and key in texts)
                texts.add(key)
        kinds = Counter(kind for kind, _ in found.resources)
        assert kinds["DiagnosticReport"] == len(reports), row["id"]
        assert kinds["Observation"] == tests, row["id"]
        named = {
            str(one) for (kind, _), report in found.resources.items() if kind == "DiagnosticReport" for one in report.get("result", [])
        }
        assert len(named) == kinds["Observation"], "each result belongs to a report"
        seen += 1
    assert seen >= 10


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """One to four small damages."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data)) if data else 0
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[at] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + draw.randrange(1, 40)]
        elif kind == 2:
            data[at:at] = draw.choice([b"|", b"^", b"~", b"&", b"\\", b"\r", b'""', b"\x00", b"\xff", b"\\X", "危".encode(), b"|" * 40])
        elif kind == 3:
            end = at + draw.randrange(1, 60)
            data[at:at] = data[at:end] * draw.randrange(1, 4)
        elif kind == 4:
            data = data[:at]
        elif kind == 5:
            data[at:at] = draw.choice([b"99999999999999", b"-1", b"1e999", b"NaN", b"20261399", b"<", b"0.0.0", b"<>^1^-^", b"^^^^"])
        else:
            lines = data.split(b"\r")
            draw.shuffle(lines)
            data = bytearray(b"\r".join(lines))
    return bytes(data)


@pytest.mark.longer
def test_damaged_messages_raise_nothing_but_refusals(messages: list[dict[str, Any]], corpus: Path) -> None:
    draw = random.Random(20260120)
    seeds = [path.read_bytes() for path in sorted((corpus / "hl7v2-samples" / "messages").iterdir())] * 6
    served = ("ADT", "ORU", "ORM", "OML", "SIU")
    seeds += [row["message"].encode() for row in messages if row["type"].split("^")[0] in served and len(row["message"]) < 5000]
    results: Counter[str] = Counter()
    for _ in range(FUZZED):
        found = outcome(mutated(draw.choice(seeds), draw))
        results[type(found).__name__] += 1
    assert results["Mapping"] > FUZZED / 10
    assert results["Refusal"] > FUZZED / 10


@pytest.mark.longer
def test_random_bytes_raise_nothing_but_refusals() -> None:
    draw = random.Random(7)
    for _ in range(500):
        raw = draw.randbytes(draw.randrange(200))
        assert isinstance(outcome(raw), Refusal)
        assert isinstance(outcome(b"MSH|^~\\&|" + raw), (Refusal, FhirError))


def test_every_refusal_can_be_told(messages: list[dict[str, Any]]) -> None:
    import datetime as dt

    draw = random.Random(1)
    for row in messages:
        raw = mutated(row["message"].encode(), draw)
        found = outcome(raw)
        if isinstance(found, Refusal):
            header = Message.header_of(raw.decode("utf-8", "ignore"))
            answer = ack.refuse(header, found, dt.datetime(2026, 1, 20, tzinfo=dt.UTC))
            lines = answer.split("\r")
            assert lines[0].startswith("MSH|^~\\&|")
            assert lines[1].split("|")[1] == found.code
            assert [line[:3] for line in lines[2:]] == ["ERR", ""]
