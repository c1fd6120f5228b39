"""Character sets: which one a message is in, decoded before anything is split.

GB18030's second bytes can be the very bytes of |, ^, ~ and backslash, so splitting comes after decoding.
Specification: HL7 v2.5.1 table 0211; docs of Chinese senders
"""

from __future__ import annotations

from integrations.hl7v2.errors import DATA_TYPE, TABLE_VALUE, Refusal

_NAMES = {
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "GB 18030-2000": "gb18030",
    "GB18030": "gb18030",
    "GB18030-2000": "gb18030",
    "GBK": "gb18030",
    "GB2312": "gb18030",
    "GB 2312-1980": "gb18030",
    "BIG-5": "big5hkscs",
    "BIG5": "big5hkscs",
    "ASCII": "utf-8",
    "ISO IR6": "utf-8",
    "CNS 11643-1992": "big5hkscs",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    **{f"8859/{n}": f"iso8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}


_HEADER = 4096
"""Bytes in which the header is looked for."""


def codec_of(name: str) -> str | None:
    """The codec of a name in MSH-18, or None for one that is not known."""
    return _NAMES.get(name.strip().upper())


def _try(raw: bytes, codec: str) -> str | None:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _declared(text: str) -> str:
    """MSH-18 of a decoded message (its first repetition)."""
    text = text.lstrip("\ufeff\r\n\t ")
    separator = text[3:4]
    if not separator:
        return ""
    fields = text.split("\r", 1)[0].split("\n", 1)[0].split(separator)
    return fields[17].split(text[5:6] or "~")[0] if len(fields) > 17 else ""


def _named(raw: bytes) -> str:
    """MSH-18 of what is not UTF-8: as it reads in the character set that it names itself, because in others a character before it may
    swallow a separator."""
    line = raw[:_HEADER].lstrip().split(b"\r", 1)[0].split(b"\n", 1)[0]
    names = [(codec, _declared(line.decode(codec, errors="replace"))) for codec in ("gb18030", "big5hkscs", "iso2022_jp", "latin-1")]
    return next((name for codec, name in names if codec_of(name) == codec), names[-1][1])


def decode(raw: bytes, default: str | None = None) -> tuple[str, str, list[str]]:
    """(text, codec, warnings). Raises Refusal AE 102 when no character set fits, AE 103 when an unknown one is declared.

    Declared and fitting wins; declared but not fitting gives way to the other of UTF-8 and GB18030, with a warning.
    Nothing declared: `default`, else strict UTF-8, else GB18030. An unknown name is passed over only where the content is strict UTF-8,
    which nothing else is by chance; GB18030 would make characters of almost any bytes.
    """
    if b"\0" in raw[:8]:
        raise Refusal("AE", DATA_TYPE, "The message is in UTF-16 or UTF-32, or not text at all; send UTF-8 or GB18030", "MSH-18")
    unicode = _try(raw, "utf-8")
    name = _declared(unicode) if unicode is not None else _named(raw)
    wanted = codec_of(name) if name else default
    if name and wanted is None:
        if unicode is None:
            raise Refusal("AE", TABLE_VALUE, f"MSH-18: the character set '{name}' is not known, and the content is not UTF-8", "MSH-18")
        return _clean(unicode), "utf-8", [f"MSH-18: the character set '{name}' is not known; read as UTF-8"]
    if wanted and wanted != "utf-8":
        chosen = _try(raw, wanted)
        if chosen is not None:
            return _clean(chosen), wanted, []
    guess, text = ("utf-8", unicode) if unicode is not None else ("gb18030", _try(raw, "gb18030"))
    if text is None:
        raise Refusal("AE", DATA_TYPE, f"The content is neither {name or 'UTF-8'} nor GB18030", "MSH-18")
    warnings = [f"MSH-18: it says {name or wanted}, but the content is {guess}"] if wanted and wanted != guess else []
    return _clean(text), guess, warnings


def _clean(text: str) -> str:
    return text.replace("\x00", "").removeprefix("\ufeff")
