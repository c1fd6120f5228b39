"""An MLLP peer of the tests' own (blocking sockets, nothing of the server's code), messages, and what is looked up afterwards."""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import Server

START, END = b"\x0b", b"\x1c\r"


class Peer:
    """One MLLP connection of a sender."""

    def __init__(self, server: Server, timeout: float = 20.0) -> None:
        assert server.mllp is not None
        self.socket = socket.create_connection(server.mllp, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> bytes:
        """The next acknowledgement; raises EOFError when the server closed without one."""
        while END not in self._rest:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"closed; before it came {self._rest!r}")
            self._rest += data
        found, _, self._rest = self._rest.partition(END)
        assert found[:1] == START, found
        return found[1:]

    def closed(self) -> bool:
        """Wait for the server to close in order (no reset)."""
        return self.socket.recv(1) == b""

    def send(self, message: bytes | str) -> Ack:
        self.write(framed(message))
        return Ack.of(self.answer())


def framed(message: bytes | str) -> bytes:
    return START + (message.encode() if isinstance(message, str) else message) + END


@dataclass(frozen=True)
class Ack:
    """An acknowledgement, split by hand."""

    raw: bytes
    header: list[str]
    code: str
    control: str
    errors: list[list[str]]

    @classmethod
    def of(cls, raw: bytes, charset: str = "utf-8") -> Ack:
        lines = [line.split("|") for line in raw.decode(charset, errors="surrogateescape").split("\r") if line]
        assert lines[0][:2] == ["MSH", "^~\\&"], lines
        msa = next(line for line in lines if line[0] == "MSA")
        return cls(raw, lines[0], msa[1], msa[2] if len(msa) > 2 else "", [line for line in lines if line[0] == "ERR"])

    @property
    def error(self) -> str:
        """Table 0357's code of the first ERR segment: ERR-3, in versions up to 2.4 the fourth component of ERR-1."""
        first = self.errors[0]
        return first[3].split("^")[0] if len(first) > 3 else first[1].split("^")[3].split("&")[0]

    @property
    def place(self) -> str:
        """ERR-2 as 'PID-3', or 'PID'."""
        parts = (self.errors[0][2] if len(self.errors[0]) > 2 else self.errors[0][1]).split("^")
        return "-".join(part for part in (parts[0], parts[2] if len(parts) > 2 else "") if part)

    @property
    def text(self) -> str:
        return self.errors[0][8] if len(self.errors[0]) > 8 else ""


def salt() -> str:
    """A fresh token for numbers and control ids."""
    return secrets.token_hex(4).upper()


def header(
    type: str, control: str, *, version: str = "2.5.1", when: str = "20260120103000", sender: str = "HIS|CENTRAL", more: str = ""
) -> str:
    return f"MSH|^~\\&|{sender}|FHIR|HM|{when}||{type}|{control}|P|{version}{more or '||||||UNICODE UTF-8'}"


def admission(
    patient: str,
    control: str,
    *,
    event: str = "A01",
    name: str = "Meyer^Paul",
    when: str = "20260115083000",
    pv1: bool = True,
    ids: str = "",
) -> str:
    """An ADT message of one patient with one visit."""
    lines = [
        header(f"ADT^{event}", control, when=when),
        f"EVN|{event}|{when}",
        f"PID|1||{ids or f'{patient}^^^CENTRAL^MR'}||{name}||19710930|M",
    ]
    if pv1:
        lines.append(f"PV1|1|I|MED^310^2||||1501^Kraft^Ute||||||||||||V{patient}^^^CENTRAL^VN" + "|" * 25 + "20260115082000")
    return "\r".join(lines) + "\r"


def result(patient: str, control: str, *rows: str, filler: str = "", status: str = "F", ids: str = "", name: str = "Meyer^Paul") -> str:
    """An ORU^R01 with one report; `rows` are OBX segments without 'OBX|n|'."""
    filler = filler or f"FL{patient}"
    lines = [
        header("ORU^R01^ORU_R01", control, sender="LIS|CENTRAL"),
        f"PID|1||{ids or f'{patient}^^^CENTRAL^MR'}||{name}||19710930|M",
        f"OBR|1|PL{filler}^HIS|{filler}^LIS|CHEM^Chemistry^L|||20260120081000" + "|" * 15 + f"20260120101500||LAB|{status}",
        *(f"OBX|{at}|{row}" for at, row in enumerate(rows or ("NM|2823-3^Potassium^LN||4.4|mmol/L|3.5-5.3|N|||F",), 1)),
    ]
    return "\r".join(lines) + "\r"


def found(client: httpx.Client, type: str, **query: str) -> list[dict[str, Any]]:
    """All matches of a search, page by page."""
    answer = client.get(type, params={"_count": "200", **query})
    assert answer.status_code == 200, answer.text
    out: list[dict[str, Any]] = []
    while True:
        bundle = answer.json()
        out += [entry["resource"] for entry in bundle.get("entry", []) if entry.get("search", {}).get("mode") != "outcome"]
        link = next((one["url"] for one in bundle.get("link", []) if one["relation"] == "next"), None)
        if link is None:
            return out
        answer = client.get(link)


def patients(client: httpx.Client, number: str) -> list[dict[str, Any]]:
    return found(client, "Patient", identifier=number)


def of_patient(client: httpx.Client, number: str) -> dict[str, list[dict[str, Any]]]:
    """All clinical resources of the one patient with this number, by type."""
    who = patients(client, number)
    assert len(who) == 1, who
    reference = f"Patient/{who[0]['id']}"
    kinds = ("Encounter", "Condition", "AllergyIntolerance", "Observation", "DiagnosticReport", "ServiceRequest")
    by_type = {kind: found(client, kind, patient=reference) for kind in kinds}
    return {"Patient": who, **by_type, "Appointment": found(client, "Appointment", patient=reference)}


def versions(client: httpx.Client) -> dict[str, str]:
    """'Type/id' → version of everything in the store that came from messages."""
    kinds = ("Patient", "Encounter", "Condition", "AllergyIntolerance", "Observation", "DiagnosticReport", "ServiceRequest", "Appointment")
    others = ("Practitioner", "Organization", "Location", "Provenance")
    return {f"{kind}/{one['id']}": one["meta"]["versionId"] for kind in (*kinds, *others) for one in found(client, kind)}


def until(condition: Any, seconds: float = 15.0) -> Any:
    """Wait until `condition()` is true; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value
