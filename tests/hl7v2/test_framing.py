"""MLLP: 0B … 1C 0D. Specification: HL7 v2 transport specification, MLLP release 1."""

from __future__ import annotations

import random

import pytest

from integrations.hl7v2.framing import Frames, FrameTooLarge, frame


def test_a_frame_is_the_message_between_its_marks() -> None:
    assert frame(b"MSH|x") == b"\x0bMSH|x\x1c\x0d"


@pytest.mark.parametrize(
    ("packets", "messages"),
    [
        ([b"\x0bA\x1c\r"], [b"A"]),
        ([b"\x0bA\x1c\r\x0bB\x1c\r"], [b"A", b"B"]),
        ([b"\x0b", b"A", b"\x1c", b"\r"], [b"A"]),
        ([b"\x0bA\x1c", b"\r\x0bB\x1c\r"], [b"A", b"B"]),
        ([b"xx\r\n\x0bA\x1c\ryy\x0bB\x1c\r"], [b"A", b"B"]),
        ([b"\x0b\x1c\r"], [b""]),
        ([b"\x0bA\x1cB\x1c\r"], [b"A\x1cB"]),
        ([b"\x0bA\rB\r\x1c\r"], [b"A\rB\r"]),
        ([b"A\x1c\r"], []),
        ([b"\x0bA"], []),
        ([b"\x0bMSH|cut\x0bMSH|whole\x1c\r"], [b"MSH|whole"]),
        ([b"\x0bMSH|a line\x0bbreak\x1c\r"], [b"MSH|a line\x0bbreak"]),
        ([b"\x0bMSH|cut", b"\x0bM", b"SH|whole\x1c\r"], [b"MSH|whole"]),
    ],
)
def test_messages_out_of_packets(packets: list[bytes], messages: list[bytes]) -> None:
    frames = Frames()
    assert [message for packet in packets for message in frames.feed(packet)] == messages


def test_any_split_into_packets_gives_the_same_messages() -> None:
    draw = random.Random(3)
    stream = b"".join(b"\x0bMSH|" + bytes(draw.choices(range(32, 127), k=draw.randrange(40))) + b"\x1c\r" for _ in range(40))
    whole = Frames().feed(stream)
    assert len(whole) == 40
    for _ in range(50):
        cuts = sorted(draw.sample(range(len(stream)), 30))
        frames = Frames()
        parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert [message for part in parts for message in frames.feed(part)] == whole
        assert frames.pending == 0


def test_the_limit_is_for_the_message_and_rubbish_between_frames_does_not_pile_up() -> None:
    frames = Frames(limit=10)
    assert frames.feed(b"\x0b0123456789\x1c\r") == [b"0123456789"]
    assert frames.feed(b"x" * 1000) == []
    assert frames.pending == 0
    with pytest.raises(FrameTooLarge):
        frames.feed(b"\x0b01234567890\x1c\r")
    with pytest.raises(FrameTooLarge):
        Frames(limit=10).feed(b"\x0b" + b"x" * 20)
