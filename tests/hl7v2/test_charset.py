"""Which character set a message is in. Specification: HL7 v2.5.1 table 0211; GB 18030."""

from __future__ import annotations

import pytest

from integrations.hl7v2.charset import codec_of, decode
from integrations.hl7v2.errors import Refusal

TEXT = "MSH|^~\\&|HIS|省医院|FHIR|HM|20260115||ADT^A01|C1|P|2.4||||||{}\rPID|1||1||孙^桂英\r"


def traditional(text: str) -> str:
    return text.replace("省医院", "醫院").replace("孙", "孫")


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("UNICODE UTF-8", "utf-8"), ("UTF-8", "utf-8"), ("unicode", "utf-8"), ("GB 18030-2000", "gb18030"), ("GB18030", "gb18030"),
        ("GBK", "gb18030"), ("GB2312", "gb18030"), ("BIG-5", "big5hkscs"),
    ],
)  # fmt: skip
def test_declared_character_sets(name: str, codec: str) -> None:
    text = traditional(TEXT.format(name)) if codec == "big5hkscs" else TEXT.format(name)
    assert decode(text.encode(codec)) == (text, codec, [])
    assert codec_of(name) == codec


def test_latin_1_is_read_as_declared() -> None:
    text = "MSH|^~\\&|A|B|||2026||ADT^A01|C|P|2.4||||||8859/1\rPID|1||1||Müller\r"
    assert decode(text.encode("latin-1"))[:2] == (text, "iso8859-1")


@pytest.mark.parametrize("codec", ["utf-8", "gb18030"])
def test_nothing_declared_is_strict_utf_8_else_gb18030(codec: str) -> None:
    text = TEXT.format("")
    assert decode(text.encode(codec)) == (text, codec, [])


def test_a_default_of_the_source_counts_before_the_guess() -> None:
    text = traditional(TEXT.format(""))
    assert decode(text.encode("big5hkscs"), "big5hkscs")[:2] == (text, "big5hkscs")


@pytest.mark.parametrize(("declared", "real"), [("UNICODE UTF-8", "gb18030"), ("GB18030", "utf-8")])
def test_declared_wrongly_is_read_as_the_other_with_a_warning(declared: str, real: str) -> None:
    # The last character's third byte before the line's end cannot be GB18030.
    text = TEXT.format(declared).replace("桂英", "英")
    raw = text.encode(real)
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8" if real == "gb18030" else "gb18030")
    found, codec, warnings = decode(raw)
    assert (found, codec) == (text, real)
    assert warnings[0].startswith("MSH-18")


@pytest.mark.parametrize(
    "raw",
    [
        b"MSH|^~\\&|\xff\xff",
        TEXT.format("UNICODE UTF-8").encode() + b"\xff\xc3",
        TEXT.format("KOI8-R").encode() + b"\xe1\xff\xff",
        "MSH|^~\\&|A".encode("utf-16-be"),
    ],
)
def test_bytes_that_no_character_set_fits_are_refused_never_replaced(raw: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        decode(raw)
    assert (refusal.value.code, refusal.value.location) == ("AE", "MSH-18")


def test_nul_and_byte_order_mark_are_not_kept() -> None:
    raw = "\ufeff".encode() + TEXT.format("UNICODE UTF-8").encode().replace(b"PID", b"\x00PID")
    assert decode(raw) == (TEXT.format("UNICODE UTF-8"), "utf-8", [])
