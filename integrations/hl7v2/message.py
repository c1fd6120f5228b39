"""A lazy HL7 v2 parser: a message is split into segments, a segment into fields when it is asked, nothing deeper until needed.

Specification: HL7 v2.5.1 chapter 2 (encoding rules 2.7, escapes 2.7.1)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from integrations.hl7v2.errors import DATA_TYPE, REQUIRED, SEQUENCE, VERSION, Refusal
from integrations.hl7v2.times import fhir_time, parse_moment

_VERSION = re.compile(r"2\.(?:1|2|3(?:\.1)?|4|5(?:\.1)?|6|7(?:\.1)?|8(?:\.[12])?)\Z")
MAX_SEGMENTS = 10_000
MAX_REPETITIONS = 1_000
"""More of them are refused: they would hold up other senders, and no laboratory sends them."""
_SEGMENT = re.compile(r"[A-Za-z][A-Za-z0-9]{2}\Z", re.ASCII)
DELETE = '""'
"""The value that deletes: as opposed to an empty one, which leaves what is there."""


def _usable(sign: str) -> bool:
    """Whether a sign may be a delimiter: ASCII, printable, neither letter, digit nor blank."""
    return "!" <= sign <= "~" and not sign.isalnum()


class Delimiters:
    """Separators of one message: field, component, repetition, escape, subcomponent."""

    __slots__ = ("component", "escape", "field", "inside", "pattern", "repetition", "subcomponent")

    def __init__(self, header: str) -> None:
        if header[:3] != "MSH":
            raise Refusal("AR", SEQUENCE, "The message does not begin with an MSH segment", "MSH")
        self.field = header[3:4]
        marks = header[4:].split(self.field, 1)[0] if self.field else ""
        if not _usable(self.field):
            raise Refusal("AR", REQUIRED, f"MSH-1 must be a sign that is neither letter, digit nor blank, not '{self.field}'", "MSH-1")
        signs = [self.field, *marks]
        if not 4 <= len(marks) <= 5 or len(set(signs)) != len(signs) or not all(map(_usable, marks)):
            raise Refusal(
                "AR", REQUIRED, f"MSH-2 must be four or five distinct delimiters that differ from MSH-1, not '{marks[:20]}'", "MSH-2"
            )
        self.component, self.repetition, self.escape, self.subcomponent = list(marks[:4])
        mark = re.escape(self.escape)
        self.pattern = re.compile(f"{mark}([^{mark}]*){mark}")
        self.inside = re.compile("[" + re.escape(marks[:4]) + "]").search
        """Finds a delimiter inside a field; a field without one is its own only component."""

    def unescape(self, text: str) -> str:
        """Resolve \\F\\ \\S\\ \\T\\ \\R\\ \\E\\ \\Xdd..\\ \\.br\\ \\.sp\\; \\H\\ and \\N\\ vanish; unknown ones stay as they are."""
        return self.pattern.sub(self._one, text) if self.escape in text else text

    def _one(self, found: re.Match[str]) -> str:
        code = found[1]
        plain = {"F": self.field, "S": self.component, "T": self.subcomponent, "R": self.repetition, "E": self.escape, "H": "", "N": ""}
        if code in plain:
            return plain[code]
        if code in (".br", ".BR"):
            return "\n"
        if code.startswith((".sp", ".SP")):
            return "\n" * int(code[3:].strip("+") or 1) if code[3:].strip("+").isdigit() or not code[3:] else found[0]
        if code.startswith("X") and len(code) > 1 and len(code) % 2 == 1:
            try:
                return bytes.fromhex(code[1:]).decode("utf-8").replace("\x00", "")
            except ValueError:
                return found[0]
        return found[0]


class Field:
    """One repetition of a field."""

    __slots__ = ("_marks", "_parts", "raw")

    def __init__(self, raw: str, marks: Delimiters) -> None:
        self.raw, self._marks = raw, marks
        self._parts: list[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.raw)

    @property
    def text(self) -> str:
        """The whole repetition as text."""
        return self._marks.unescape(self.raw)

    @property
    def deletes(self) -> bool:
        return self.raw == DELETE

    def part(self, component: int, subcomponent: int = 1) -> str:
        """A component (from 1), by default its first subcomponent; '' where it is absent."""
        parts = self._parts
        if parts is None:
            parts = self._parts = self.raw.split(self._marks.component)
        if component > len(parts):
            return ""
        text = parts[component - 1]
        if not text:
            return ""
        if self._marks.subcomponent in text:
            pieces = text.split(self._marks.subcomponent)
            text = pieces[subcomponent - 1] if subcomponent <= len(pieces) else ""
        elif subcomponent > 1:
            return ""
        return "" if text == DELETE else self._marks.unescape(text)

    def subparts(self, component: int) -> tuple[str, str, str]:
        """The first three subcomponents of a component: a name, a universal id and its type (HD inside CX, XCN, EI)."""
        return self.part(component, 1), self.part(component, 2), self.part(component, 3)


class Segment:
    """One segment; fields are numbered as in the standard (MSH-1 is the separator itself)."""

    __slots__ = ("_fields", "_marks", "_offset", "name", "position", "raw")

    def __init__(self, raw: str, marks: Delimiters, position: int = 1) -> None:
        self.raw, self._marks, self.position = raw, marks, position
        self.name = raw[:3]
        self._fields: list[str] | None = None
        self._offset = 1 if self.name in ("MSH", "FHS", "BHS") else 0

    def raw_field(self, number: int) -> str:
        """The field with all repetitions, as it was sent; '' where it is absent."""
        if self._fields is None:
            self._fields = self.raw.split(self._marks.field)
        at = number - self._offset
        if at < 1:
            return self._marks.field if number == 1 else ""
        return self._fields[at] if at < len(self._fields) else ""

    def field(self, number: int) -> Field:
        """The first repetition."""
        raw = self.raw_field(number)
        if self._marks.repetition in raw and not (self._offset and number == 2):
            raw = raw.split(self._marks.repetition, 1)[0]
        return Field(raw, self._marks)

    def fields(self, number: int) -> list[Field]:
        """All repetitions that are not empty."""
        raw = self.raw_field(number)
        if not raw:
            return []
        if raw.count(self._marks.repetition) > MAX_REPETITIONS:
            raise Refusal("AE", DATA_TYPE, f"The field has more than {MAX_REPETITIONS} repetitions", self.place(number))
        return [Field(one, self._marks) for one in raw.split(self._marks.repetition) if one]

    def value(self, number: int, component: int = 1) -> str:
        """A component of the first repetition, unescaped."""
        raw = self.raw_field(number)
        if not self._marks.inside(raw):
            return "" if component > 1 or raw == DELETE else raw
        return self.field(number).part(component)

    def deletes(self, number: int) -> bool:
        return self.raw_field(number) == DELETE

    def place(self, number: int) -> str:
        """Where a field is, for an ERR segment: 'PID-3', 'OBX[2]-5' for the second OBX."""
        return f"{self.name}[{self.position}]-{number}"


class Message:
    """A parsed message. Raises Refusal for what no acknowledgement could be given to in the ordinary way."""

    def __init__(self, text: str) -> None:
        if text.count("\r") + text.count("\n") > 2 * MAX_SEGMENTS:
            raise Refusal("AE", SEQUENCE, f"The message has more than {MAX_SEGMENTS} segments; send it in parts", "MSH")
        lines = [line for line in text.replace("\r\n", "\r").replace("\n", "\r").split("\r") if line.strip()]
        if not lines:
            raise Refusal("AR", SEQUENCE, "The message is empty", "MSH")
        if len(lines) > MAX_SEGMENTS:
            raise Refusal("AE", SEQUENCE, f"The message has more than {MAX_SEGMENTS} segments; send it in parts", "MSH")
        lines[0] = lines[0].lstrip()
        self.marks = Delimiters(lines[0])
        counts: dict[str, int] = {}
        self.segments: list[Segment] = []
        for line in lines:
            name = line[:3]
            counts[name] = position = counts.get(name, 0) + 1
            self.segments.append(Segment(line, self.marks, position))
        self.header = self.segments[0]

    @classmethod
    def header_of(cls, text: str) -> Message | None:
        """What an acknowledgement can be addressed by when the message itself cannot be read: its header, with the usual MSH-2; or None."""
        line = text.lstrip().split("\r", 1)[0].split("\n", 1)[0]
        sign = line[3:4]
        if line[:3] != "MSH" or not _usable(sign) or sign in "^~\\&":
            return None
        _, _, rest = line[4:].partition(sign)
        return cls(f"MSH{sign}^~\\&{sign}{rest}")

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def first(self, name: str) -> Segment | None:
        """The first segment of a name."""
        return next((segment for segment in self.segments if segment.name == name), None)

    def all(self, name: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.name == name]

    @property
    def type(self) -> str:
        return self.header.value(9, 1)

    @property
    def event(self) -> str:
        return self.header.value(9, 2)

    @property
    def control_id(self) -> str:
        return self.header.value(10)

    @property
    def version(self) -> str:
        return self.header.value(12) or ""

    @property
    def sender(self) -> tuple[str, str]:
        """MSH-3 and MSH-4."""
        return self.header.value(3), self.header.value(4)

    def event_time(self, zone: ZoneInfo) -> int | None:
        """When that happened of which the message tells: EVN-6, EVN-2 or MSH-7 in milliseconds since 1970; None for dates alone."""
        event = self.first("EVN")
        for text in (event.value(6) if event else "", event.value(2) if event else "", self.header.value(7)):
            if moment := parse_moment(fhir_time(text, zone)):
                return int(moment.timestamp() * 1000)
        return None

    def check_header(self) -> None:
        """Raise Refusal for a header that lacks MSH-9 or MSH-10, a version that is not 2.1 to 2.8, or a line that is no segment."""
        if not self.type:
            raise Refusal("AR", REQUIRED, "MSH-9 (message type) is missing", "MSH-9")
        if not self.control_id:
            raise Refusal("AE", REQUIRED, "MSH-10 (message control id) is missing", "MSH-10")
        for number, segment in enumerate(self.segments, 1):
            if not _SEGMENT.match(segment.name) or segment.raw[3:4] not in ("", self.marks.field):
                raise Refusal("AE", SEQUENCE, f"Line {number} does not begin with a segment's name and '{self.marks.field}'", segment.name)
        if self.version and not _VERSION.match(self.version):
            raise Refusal("AR", VERSION, f"MSH-12: version '{self.version}' is not 2.1 to 2.8", "MSH-12")
