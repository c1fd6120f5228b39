"""A full disk: each writer gets a clear refusal, nothing acknowledged is lost, reads go on, and there is no need to restart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, start_server
from tests.hl7v2.support import Peer
from tests.wire.resources import identified, outcome, patient

ADMISSION = (
    "MSH|^~\\&|HIS|WARD|FHIR|SITE|20260301080000||ADT^A01^ADT_A01|{control}|P|2.5\r"
    "EVN|A01|20260301080000\r"
    "PID|1||D{control}^^^HIS^MR||DISK^FULL||19800101|F\r"
    "PV1|1|I|W1^1^1||||||||||||||||V{control}^^^HIS^VN|||||||||||||||||||||||||20260301080000\r"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where mounting is permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def server(disk: Path) -> Iterator[Server]:
    (disk / "ballast").write_bytes(bytes(2_000_000))
    running = start_server(disk / "data", "--mllp-port", "0")
    yield running
    running.kill()


def test_all_writers_are_refused_and_all_goes_on_when_there_is_room(server: Server, disk: Path) -> None:
    with server.client() as client, Peer(server) as peer:
        assert peer.send(ADMISSION.format(control="1")).code == "AA"
        acknowledged = []
        for number in range(20_000):
            answer = client.post("Patient", json=identified(f"d{number}", text={"status": "generated", "div": _narrative()}))
            if answer.status_code != 201:
                break
            acknowledged.append(answer.json()["id"])
        text = outcome(answer, 507)
        assert "room" in text
        assert len(acknowledged) > 50

        bundle = {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {
                    "request": {"method": "POST", "url": "Patient"},
                    "resource": identified(f"t{n}", text={"status": "generated", "div": _narrative()}),
                }
                for n in range(40)
            ],
        }
        outcome(client.post("", json=bundle), 507)
        # What asks for little may still find a page; what is answered with AA must then be there.
        refused = next(ack for number in range(2, 400) if (ack := peer.send(ADMISSION.format(control=str(number)))).code != "AA")
        assert refused.code == "AE"
        assert client.get(f"Patient/{acknowledged[0]}").status_code == 200
        assert client.get(f"Patient/{acknowledged[-1]}").status_code == 200
        assert client.get("Patient", params={"identifier": "urn:mrn|d3", "_summary": "count"}).json()["total"] == 1
        assert client.get("Patient", params={"identifier": "urn:mrn|t0", "_summary": "count"}).json()["total"] == 0
        assert client.get(server.root + "/health/live").status_code == 200

        (disk / "ballast").unlink()
        assert client.get(server.root + "/health/ready").status_code == 200
        assert client.post("Patient", json=patient()).status_code == 201
        assert client.post("", json=bundle).status_code == 200
        assert peer.send(ADMISSION.format(control=refused.control)).code == "AA"
        found = client.get("Patient", params={"identifier": f"D{refused.control}", "_summary": "count"}).json()
        assert found["total"] == 1
    server.kill()
    again = start_server(disk / "data")
    try:
        with again.client() as client:
            assert all(client.get(f"Patient/{id}").status_code == 200 for id in acknowledged)
    finally:
        again.kill()


def _narrative() -> str:
    """Text that no compression makes small."""
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{os.urandom(3000).hex()}</div>'
