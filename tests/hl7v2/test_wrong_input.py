"""Wrong input over the wire: each a negative acknowledgement that says where and why, or a close in order; then the next message works.

Specification: HL7 v2.5.1 chapter 2.9.2, tables 0008 and 0357; MLLP release 1
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Server
from tests.hl7v2.support import END, START, Ack, Peer, admission, framed, header, of_patient, patients, result, salt, until, versions


@pytest.fixture
def lives(server: Server, client: httpx.Client) -> Iterator[None]:
    """Afterwards the same server takes a good message on a new connection, and nothing else was stored."""
    before = set(versions(client))
    yield
    token = salt()
    with Peer(server) as peer:
        assert peer.send(admission(f"L{token}", f"C{token}", pv1=False)).code == "AA"
    assert len(patients(client, f"L{token}")) == 1
    fresh = set(versions(client)) - before
    assert {one.partition("/")[0] for one in fresh} == {"Patient", "Provenance"}
    assert len(fresh) == 2


PID = "PID|1||W1^^^CENTRAL^MR||Meyer^Paul\r"
GOOD = header("ADT^A28", "C1") + "\r" + PID
KOREAN = GOOD.replace("UNICODE UTF-8", "EUC-KR").replace("Meyer", "김").encode("euc-kr")


@pytest.mark.parametrize(
    ("message", "code", "error", "place", "says"),
    [
        pytest.param(GOOD.replace("|C1|", "||"), "AE", "101", "MSH-10", "MSH-10", id="no control id"),
        pytest.param(GOOD.replace("|ADT^A28|", "||"), "AR", "101", "MSH-9", "MSH-9", id="no message type"),
        pytest.param(GOOD.replace("ADT^A28", "QQQ^Q99"), "AR", "200", "MSH-9", "QQQ", id="unknown type"),
        pytest.param(GOOD.replace("ADT^A28", "ADT^A99"), "AR", "201", "MSH-9", "A99", id="unknown event"),
        pytest.param(GOOD.replace("ADT^A28", "ADT"), "AR", "201", "MSH-9", "ADT", id="no event"),
        pytest.param(GOOD.replace("|2.5.1|", "|3.0|"), "AR", "203", "MSH-12", "3.0", id="version 3"),
        pytest.param(GOOD.replace("^~\\&", "^~~&"), "AR", "101", "MSH-2", "MSH-2", id="MSH-2 repeats a delimiter"),
        pytest.param(GOOD.replace("|^~\\&|", "||"), "AR", "101", "MSH-2", "MSH-2", id="MSH-2 empty"),
        pytest.param(GOOD.replace("^~\\&", "^~\\&#*"), "AR", "101", "MSH-2", "MSH-2", id="MSH-2 of six signs"),
        pytest.param(GOOD.replace("^~\\&", "^~\\a"), "AR", "101", "MSH-2", "MSH-2", id="MSH-2 with a letter"),
        pytest.param(GOOD.replace("MSH|", "MSHX", 1), "AR", "101", "MSH-1", "MSH-1", id="MSH-1 a letter"),
        pytest.param("MSH", "AR", "101", "MSH-1", "MSH-1", id="only three letters"),
        pytest.param("", "AR", "100", "MSH", "empty", id="empty frame"),
        pytest.param("\r\r\n", "AR", "100", "MSH", "empty", id="only line ends"),
        pytest.param("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "AR", "100", "MSH", "MSH", id="another protocol in a frame"),
        pytest.param(PID, "AR", "100", "MSH", "MSH", id="no MSH"),
        pytest.param(header("ADT^A28", "C1") + "\r", "AE", "101", "PID", "PID", id="no PID"),
        pytest.param(GOOD.replace("W1^^^CENTRAL^MR", ""), "AE", "101", "PID-3", "PID-3", id="no identifier"),
        pytest.param(GOOD.replace(PID, "PI"), "AE", "100", "", "Line 2", id="a segment cut inside its name"),
        pytest.param(GOOD + "|PV1|1|I\r", "AE", "100", "", "Line 3", id="a line that is no segment"),
        pytest.param(GOOD.replace(PID, "PID"), "AE", "101", "PID-3", "PID-3", id="a segment cut after its name"),
        pytest.param(result("W1", "C1", "NM|2823-3^Potassium^LN||4.4|||||F", "NM"), "AE", "101", "OBX-3", "OBX-3", id="second OBX cut"),
        pytest.param(header("ORU^R01", "C1") + "\r" + PID, "AE", "101", "OBR", "OBR", id="a result without OBR"),
        pytest.param(header("ORU^R01", "C1") + "\r" + PID + "OBX|1|NM|x||1||||||F\r", "AE", "100", "OBX", "OBX", id="OBX before OBR"),
        pytest.param(header("SIU^S12", "C1") + "\r" + PID, "AE", "101", "SCH", "SCH", id="an appointment without SCH"),
        pytest.param(header("ORM^O01", "C1") + "\r" + PID, "AE", "101", "OBR", "OBR", id="an order without OBR"),
        pytest.param(GOOD.replace("Meyer", "Me\x01yer"), "AE", "102", "PID", "name", id="a control character in a name"),
        pytest.param(KOREAN, "AE", "103", "MSH-18", "EUC-KR", id="unknown charset"),
        pytest.param(GOOD.encode() + b"NK1|1|\xff\xff\x80\r", "AE", "102", "MSH-18", "UTF-8", id="bytes of no charset"),
        pytest.param(GOOD.encode("utf-16-le"), "AE", "102", "MSH-18", "UTF-16", id="UTF-16"),
        pytest.param(bytes(range(256)) * 4, "AE", "102", "MSH-18", "", id="random bytes"),
    ],
)  # fmt: skip
def test_a_wrong_message_is_refused_with_place_and_reason(
    message: str | bytes, code: str, error: str, place: str, says: str, server: Server, lives: None
) -> None:
    with Peer(server) as peer:
        ack = peer.send(message)
        assert (ack.code, ack.error) == (code, error), ack.raw
        if place:
            assert ack.place == place
        assert says in ack.text
        assert "Traceback" not in ack.text
        assert peer.send(GOOD.replace("ADT^A28", "ADT^A99")).code == "AR", "the connection goes on"


def test_the_second_of_two_obx_is_named_by_its_number(server: Server) -> None:
    with Peer(server) as peer:
        ack = peer.send(result("W1", salt(), "NM|2823-3^Potassium^LN||4.4|||||F", "NM"))
    assert ack.errors[0][2] == "OBX^2^3"


@pytest.mark.parametrize("version", ["2.1", "2.2", "2.3", "2.3.1", "2.4"])
def test_old_versions_are_refused_in_their_own_form(version: str, server: Server) -> None:
    message = header("ADT^A28", "C1", version=version) + "\rPID|1||\r"
    with Peer(server) as peer:
        ack = peer.send(message)
    msa = ack.raw.decode().split("\r")[1].split("|")
    assert msa[:3] == ["MSA", "AE", "C1"]
    assert "PID-3" in msa[3]
    assert ack.errors == [["ERR", "PID^1^3^101&Required field missing&HL70357"]]
    assert ack.header[8] == ("ACK^A28^ACK" if version == "2.4" else "ACK")
    assert ack.header[11] == version


def test_an_unreadable_message_is_answered_to_its_sender_as_far_as_the_header_goes(server: Server) -> None:
    with Peer(server) as peer:
        ack = peer.send("MSH|^^^^|LIS|LAB|FHIR|HM|20260115||ADT^A01|C77|P|2.5.1\r")
    assert (ack.code, ack.control) == ("AR", "C77")
    assert ack.header[2:6] == ["FHIR", "HM", "LIS", "LAB"]


def test_an_unknown_charset_whose_content_is_utf_8_is_accepted_with_a_warning(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        ack = peer.send(admission(f"U{token}", f"C{token}", name="王^建国", pv1=False).replace("UNICODE UTF-8", "KLINGON"))
    assert ack.code == "AA"
    assert [(row[2], row[4]) for row in ack.errors] == [("MSH^1^18", "W")]
    assert patients(client, f"U{token}")[0]["name"][0]["text"] == "王建国"


def test_a_declared_charset_that_does_not_fit_gives_way_with_a_warning(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        peer.write(framed(admission(f"G{token}", f"C{token}", name="王^建国", pv1=False).encode("gb18030")))
        ack = Ack.of(peer.answer(), "gb18030")
    assert ack.code == "AA"
    assert [(row[2], row[4]) for row in ack.errors] == [("MSH^1^18", "W")]
    assert patients(client, f"G{token}")[0]["name"][0]["text"] == "王建国"


# --- frames and connections


@pytest.mark.parametrize("cut", [1, 3, 40, 150, -2, -1])
def test_a_message_cut_by_the_end_of_the_connection_stores_nothing(cut: int, server: Server, client: httpx.Client, lives: None) -> None:
    token = salt()
    data = framed(admission(f"K{token}", f"C{token}", pv1=False))
    with Peer(server) as peer:
        peer.write(data[:cut] if cut > 0 else data[: len(data) + cut])
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.closed(), "no answer to a message that did not end"
    assert patients(client, f"K{token}") == []


def test_a_connection_that_is_reset_inside_a_message_stores_nothing(server: Server, client: httpx.Client, lives: None) -> None:
    token = salt()
    peer = Peer(server)
    peer.write(START + admission(f"K{token}", f"C{token}", pv1=False).encode())
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()
    time.sleep(0.2)
    assert patients(client, f"K{token}") == []


def test_a_message_begun_anew_after_a_cut_one_counts_alone(server: Server, client: httpx.Client) -> None:
    token = salt()
    whole = admission(f"N{token}", f"C{token}", pv1=False).encode()
    with Peer(server) as peer:
        peer.write(START + whole[:60] + framed(whole))
        assert Ack.of(peer.answer()).code == "AA"
    assert len(patients(client, f"N{token}")) == 1


def test_what_stands_between_frames_is_passed_over(server: Server, client: httpx.Client) -> None:
    tokens = [salt() for _ in range(3)]
    rubbish = b"\r\nHELLO \x1c\r MSH|^~\\&|\x00\xff"
    with Peer(server) as peer:
        for token in tokens:
            peer.write(rubbish + framed(admission(f"B{token}", f"C{token}", pv1=False)))
        assert [Ack.of(peer.answer()).control for _ in tokens] == [f"C{token}" for token in tokens]
    assert all(len(patients(client, f"B{token}")) == 1 for token in tokens)


def test_two_messages_in_one_packet_are_answered_in_their_order(server: Server, client: httpx.Client) -> None:
    tokens = [salt() for _ in range(2)]
    with Peer(server) as peer:
        peer.write(b"".join(framed(admission(f"T{token}", f"C{token}", pv1=False)) for token in tokens))
        assert [(ack.code, ack.control) for ack in (Ack.of(peer.answer()), Ack.of(peer.answer()))] == [("AA", f"C{t}") for t in tokens]
    assert all(len(patients(client, f"T{token}")) == 1 for token in tokens)


def test_fifty_messages_without_waiting_are_all_answered_in_order(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        peer.write(b"".join(framed(result(f"Q{token}", f"C{at}{token}", filler=f"F{at}{token}")) for at in range(50)))
        assert [Ack.of(peer.answer()).control for _ in range(50)] == [f"C{at}{token}" for at in range(50)]
    assert len(of_patient(client, f"Q{token}")["DiagnosticReport"]) == 50


def test_a_frame_in_many_packets_is_one_message(server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        for byte in framed(admission(f"M{token}", f"C{token}", name="欧阳^锋", pv1=False)):
            peer.write(bytes([byte]))
        assert Ack.of(peer.answer()).code == "AA"
    assert patients(client, f"M{token}")[0]["name"][0]["text"] == "欧阳锋"


def test_a_slow_sender_and_one_that_does_not_read_hold_up_nobody(server: Server) -> None:
    token = salt()
    data = framed(admission(f"S{token}", f"C{token}", pv1=False))
    with Peer(server) as slow, Peer(server) as deaf, Peer(server) as quick:
        slow.write(data[:30])
        # Far more answers than socket buffers hold, and never one read.
        stop = threading.Event()

        def flood() -> None:
            deaf.socket.settimeout(0.5)
            flooding = framed(GOOD.replace("ADT^A28", "ADT^A99")) * 200
            try:
                while not stop.is_set():
                    deaf.socket.sendall(flooding)
            except OSError:
                return

        thread = threading.Thread(target=flood)
        thread.start()
        began = time.monotonic()
        for at in range(20):
            assert quick.send(admission(f"S{at}{token}", f"C{at}{token}", pv1=False)).code == "AA"
        assert time.monotonic() - began < 10
        stop.set()
        thread.join()
        slow.write(data[30:])
        assert Ack.of(slow.answer()).code == "AA"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\n\r\n", "\r\r"])
def test_any_end_of_line_separates_segments(end: str, server: Server, client: httpx.Client) -> None:
    token = salt()
    with Peer(server) as peer:
        assert peer.send(admission(f"E{token}", f"C{token}").replace("\r", end)).code == "AA"
    assert len(of_patient(client, f"E{token}")["Encounter"]) == 1


def test_two_hundred_connections_at_once(server: Server) -> None:
    token = salt()
    peers = [Peer(server) for _ in range(200)]
    try:
        for at, peer in enumerate(peers):
            peer.write(framed(admission(f"H{at}{token}", f"C{at}{token}", pv1=False)))
        assert [Ack.of(peer.answer()).control for peer in peers] == [f"C{at}{token}" for at in range(200)]
    finally:
        for peer in peers:
            peer.socket.close()


# --- sizes


def test_a_message_above_the_limit_is_refused_and_its_connection_closed(start: object) -> None:
    server = start("--mllp-port", "0", env={"HL7V2_MLLP_MAX_BYTES": "100000"})  # type: ignore[operator]
    token = salt()
    long = admission(f"Z{token}", f"C{token}", pv1=False) + "NTE|1||" + "x" * 5_000_000
    with Peer(server) as peer:
        peer.write(START + long.encode())
        ack = Ack.of(peer.answer())
        assert (ack.code, ack.control) == ("AR", f"C{token}")
        assert "100000" in ack.text
        assert peer.closed()
    with Peer(server) as peer, server.client() as client:
        assert peer.send(admission(f"Y{token}", f"D{token}", pv1=False)).code == "AA"
        assert patients(client, f"Z{token}") == []
        assert len(patients(client, f"Y{token}")) == 1


def test_large_messages_on_many_connections_do_not_add_up_without_bound(start: object) -> None:
    server = start("--mllp-port", "0", env={"HL7V2_MLLP_MAX_BYTES": "1000000"})  # type: ignore[operator]
    part = START + (header("ADT^A28", "C1") + "\rNTE|1||").encode() + b"x" * 900_000
    peers = [Peer(server) for _ in range(12)]
    try:
        for peer in peers:
            peer.write(part)
        refused = [peer for peer in peers if _answered(peer)]
        assert 7 <= len(refused) <= 9, "four of the largest messages may be on their way together"
        assert all(Ack.of(peer.answer()).error == "207" for peer in refused)
    finally:
        for peer in peers:
            peer.socket.close()
    with Peer(server) as peer:
        assert until(lambda: peer.send(GOOD).code == "AA")


def _answered(peer: Peer) -> bool:
    peer.socket.settimeout(0.5)
    try:
        return peer.socket.recv(1, socket.MSG_PEEK) == START
    except TimeoutError:
        return False


def test_a_field_of_a_megabyte_is_kept_whole(server: Server, client: httpx.Client) -> None:
    token = salt()
    text = "好" * 350_000
    with Peer(server) as peer:
        assert peer.send(result(f"O{token}", f"C{token}", f"FT|N^Note^L||{text}||||||F")).code == "AA"
    (observation,) = of_patient(client, f"O{token}")["Observation"]
    assert observation["valueString"] == text


def test_thousands_of_segments_and_repetitions_do_not_hold_up_others(server: Server, client: httpx.Client) -> None:
    token = salt()
    rows = [f"NM|T{at}^Test^L||{at}.5|mmol/L|1-2|H|||F" for at in range(1000)]
    many = result(f"R{token}", f"C{token}", *rows) + "NTE|1||x\r" * 5000
    with Peer(server) as peer, Peer(server) as other:
        peer.write(framed(many.replace("^MR|", "^MR" + f"~R{token}^^^OTHER^MR" * 900 + "|")))
        began = time.monotonic()
        assert other.send(admission(f"X{token}", f"D{token}", pv1=False)).code == "AA"
        assert time.monotonic() - began < 5
        assert Ack.of(peer.answer()).code == "AA"
    assert len(of_patient(client, f"R{token}")["Observation"]) == 1000


@pytest.mark.parametrize(
    ("message", "error", "place"),
    [
        pytest.param(result("R1", "C1") + "NTE|1||x\r" * 1_000_000, "100", "MSH", id="a million segments"),
        pytest.param(
            result("R1", "C1").replace("^MR|", "^MR" + "~R1^^^OTHER^MR" * 100_000 + "|"), "102", "PID-3", id="100,000 repetitions"
        ),
        pytest.param(result("R1", "C1", "FT|N^Note^L||" + "x" * 3_000_000 + "||||||F"), "102", "OBX", id="a text longer than FHIR allows"),
    ],
)
def test_more_than_anybody_needs_is_refused_at_once(message: str, error: str, place: str, server: Server, lives: None) -> None:
    with Peer(server) as peer, Peer(server) as other:
        peer.write(framed(message))
        began = time.monotonic()
        assert other.send(GOOD.replace("ADT^A28", "ADT^A99")).code == "AR"
        assert time.monotonic() - began < 5
        ack = Ack.of(peer.answer())
        assert (ack.code, ack.error, ack.place) == ("AE", error, place)


def test_the_frame_end_alone_is_passed_over(server: Server) -> None:
    with Peer(server) as peer:
        peer.write(END * 3)
        assert peer.send(GOOD.replace("ADT^A28", "ADT^A99")).code == "AR"
