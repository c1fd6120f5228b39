"""Strict XML in: the same values that the JSON of the resource would give.

Read with expat, whose events tell where in the text a narrative begins and ends, so that it is kept as it was sent. A document type
declaration is refused at once, and with it every entity, internal or external; nesting is bounded as in JSON.
Specification: https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/security.html#narrative
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from fhir_server.errors import FhirError
from fhir_server.model.definitions import definitions
from fhir_server.model.json_codec import MAX_DEPTH, integer, number
from fhir_server.model.xml_writing import FHIR, XHTML, Member, members

_INTEGERS = frozenset({"integer", "positiveInt", "unsignedInt"})
_JSON_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)\Z")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?\Z")
_FRACTION = re.compile("[.eE]")
_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance}"
_OWN_NAMESPACE = re.compile(rb"<div[^>]*\sxmlns\s*=")
_ENCODING = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def from_xml(raw: bytes) -> dict[str, Any]:
    """The resource of an XML document; raises FhirError 400 that says where and why."""
    if raw[:3] == b"\xef\xbb\xbf":
        raw = raw[3:]
    declared = _ENCODING.match(raw)
    if declared and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii", b"ascii"):
        _refuse(f"The XML says that its encoding is {declared[1].decode()}; it must be UTF-8", "XML 必须使用 UTF-8 编码")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        _refuse(f"The content is not UTF-8: byte 0x{raw[bad.start]:02x} at offset {bad.start}", f"内容不是 UTF-8 编码：偏移 {bad.start}")
    return _Reader(raw).read()


def root_of(raw: bytes) -> tuple[str, str]:
    """Namespace and name of a document's root; the rest of it is not looked at. Raises FhirError 400 for no XML, and for a DTD."""
    found: list[str] = []

    def start(name: str, _: Any) -> None:
        found.append(name)
        raise StopIteration

    parser = expat.ParserCreate("utf-8", "}")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _no_document_type
    try:
        parser.Parse(raw, True)
    except StopIteration:
        space, _, local = found[0].rpartition("}")
        return space, local
    except expat.ExpatError as fault:
        _not_xml(fault)
    raise AssertionError("a document without a root is no XML")


class _Frame:
    """An open element. `type`: whose members may stand in it, '' where a resource must; `text`: the value of a primitive.

    `extras`: what the primitives in it have beside their values, by name.
    """

    __slots__ = ("extras", "member", "name", "text", "type", "value")

    def __init__(self, name: str, type: str, value: dict[str, Any], member: Member | None) -> None:
        self.name, self.type, self.value, self.member = name, type, value, member
        self.text: str | None = None
        self.extras: dict[str, list[Any]] = {}


class _Reader:
    """One document."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._frames: list[_Frame] = []
        self._narrative = 0  # depth inside of a div
        self._begin = 0
        self._again: list[str] | None = None  # a div that cannot be kept as it stands, written anew
        self._resource: dict[str, Any] | None = None
        self._types = frozenset(definitions().resource_types)
        self._parser = parser = expat.ParserCreate("utf-8", "}")
        parser.buffer_text = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _no_document_type

    def read(self) -> dict[str, Any]:
        try:
            self._parser.Parse(self._raw, True)
        except expat.ExpatError as fault:
            _not_xml(fault)
        assert self._resource is not None
        return self._resource

    # --- events
    def _start(self, name: str, attributes: list[str]) -> None:
        space, _, local = name.rpartition("}")
        if self._narrative:
            self._narrative += 1
            self._bounded(self._narrative)
            self._written_anew(space, local, attributes)
            return
        frame = self._frames[-1] if self._frames else None
        if space == XHTML and local == "div" and frame is not None and frame.type == "Narrative":
            self._once(frame, "div")
            self._narrative, self._begin = 1, self._parser.CurrentByteIndex
            self._again = None if _OWN_NAMESPACE.match(self._raw, self._begin) else []
            self._written_anew(XHTML, local, attributes)
            return
        if space != FHIR:
            told = f"in the namespace '{space}'" if space else "in no namespace"
            self._wrong(f"the element '{local}' is {told}; it must be in {FHIR}", f"元素“{local}”的命名空间应为 {FHIR}", local)
        self._bounded(len(self._frames))
        if frame is None or not frame.type:
            self._open_resource(frame, local, attributes)
        else:
            self._open_member(frame, local, attributes)

    def _end(self, name: str) -> None:
        if self._narrative:
            self._narrative -= 1
            if self._again is not None:
                self._again.append(f"</{name.rpartition('}')[2]}>")
            if not self._narrative:
                self._frames[-1].value["div"] = self._div()
            return
        frame = self._frames[-1]
        for key, extras in frame.extras.items():
            _settle(frame.value, key, extras, members(frame.type)[key].many)
        if frame.member is not None:
            self._close_member(frame, frame.member, self._frames[-2])
        elif len(self._frames) > 1:
            self._frames[-2].value["resource"] = frame.value
        else:
            self._resource = frame.value
        self._frames.pop()

    def _characters(self, text: str) -> None:
        if not self._narrative:
            if not text.isspace():
                self._wrong(f"the text '{text.strip()[:40]}' stands where only elements may", "此处只允许出现元素，不允许文本")
        elif self._again is not None:
            self._again.append(escape(text))

    # --- elements
    def _open_resource(self, frame: _Frame | None, local: str, attributes: list[str]) -> None:
        if local not in self._types:
            self._wrong(f"'{local}' is not a resource type of FHIR R4", f"“{local}”不是 FHIR R4 的资源类型", local)
        if frame is not None and frame.value:
            self._wrong("only one resource may stand here", "此处只能有一个资源", local)
        for key in attributes[::2]:
            if not key.startswith(_SCHEMA_INSTANCE):
                self._wrong(f"the attribute '{key}' is unknown", f"未知的属性“{key}”", local)
        self._frames.append(_Frame(local, local, {"resourceType": local}, None))

    def _open_member(self, frame: _Frame, local: str, attributes: list[str]) -> None:
        member = members(frame.type).get(local)
        if member is None or member.holds in ("attribute", "xhtml"):
            self._wrong(f"the element '{local}' is unknown in {frame.type}", f"{frame.type} 中没有元素“{local}”", local)
        if not member.many:
            self._once(frame, local)
        primitive = member.holds == "primitive"
        type = "Element" if primitive else "" if member.holds == "resource" else member.type
        opened = _Frame(local, type, {}, member)
        self._frames.append(opened)
        for key, text in zip(attributes[::2], attributes[1::2], strict=True):
            if primitive and key == "value":
                opened.text = text
            elif type and key in (allowed := members(type)) and allowed[key].holds == "attribute":
                opened.value[key] = text
            else:
                self._wrong(f"the attribute '{key}' is unknown", f"未知的属性“{key}”")

    def _close_member(self, frame: _Frame, member: Member, holder: _Frame) -> None:
        if frame.text is None and not frame.value:
            self._wrong("the element is empty: it must have a value or content", "元素为空：必须有值或内容")
        if member.holds == "primitive":
            value = None if frame.text is None else _value(frame.text, member.type)
            holder.value.setdefault(member.name, []).append(value)
            holder.extras.setdefault(member.name, []).append(frame.value or None)
            return
        content = frame.value["resource"] if member.holds == "resource" else frame.value
        if member.many:
            holder.value.setdefault(member.name, []).append(content)
        else:
            holder.value[member.name] = content

    # --- narrative
    def _written_anew(self, space: str, local: str, attributes: list[str]) -> None:
        if self._again is None:
            return
        named = "".join(f" {key.rpartition('}')[2]}={quoteattr(text)}" for key, text in zip(attributes[::2], attributes[1::2], strict=True))
        own = f' xmlns="{space}"' if len(self._again) == 0 or space != XHTML else ""
        self._again.append(f"<{local}{own}{named}>")

    def _div(self) -> str:
        if self._again is not None:
            return "".join(self._again)
        end = self._raw.index(b">", self._parser.CurrentByteIndex) + 1
        return self._raw[self._begin : end].decode()

    # --- refusals
    def _once(self, frame: _Frame, local: str) -> None:
        if local in frame.value:
            self._wrong(f"the element '{local}' stands twice; it may stand once", f"元素“{local}”只能出现一次", local)

    def _bounded(self, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise FhirError.of(
                400, "too-costly", f"The content is nested deeper than {MAX_DEPTH} levels", zh=f"内容嵌套超过 {MAX_DEPTH} 层"
            )

    def _wrong(self, what: str, zh: str, inside: str = "") -> NoReturn:
        path = ".".join([frame.name for at, frame in enumerate(self._frames) if frame.member is not None or at == 0])
        place = f"{path}.{inside}" if path and inside else path or inside
        line = self._parser.CurrentLineNumber
        raise FhirError.of(400, "structure", f"{place}: {what} (line {line})", place, zh=f"{place}：{zh}（第 {line} 行）")


def _settle(value: dict[str, Any], key: str, extras: list[Any], many: bool) -> None:
    """Take apart the values of a primitive and what they have beside them, as JSON has it."""
    values = value[key]
    if any(extras):
        value["_" + key] = extras if many else extras[0]
    if all(one is None for one in values):
        del value[key]
    elif not many:
        value[key] = values[0]


def _value(text: str, type: str) -> Any:
    """A value as JSON has it; what cannot be one stays a text, which the validator refuses by name."""
    if type == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if type in _INTEGERS and _JSON_INTEGER.match(text):
        return integer(text)
    if type == "decimal" and _JSON_NUMBER.match(text) and isfinite(float(text)):  # as JSON has it: no more than a double holds
        return number(text) if _FRACTION.search(text) else integer(text)
    return text


def _no_document_type(*_: Any) -> NoReturn:
    _refuse("The XML has a document type declaration (DTD), which is not allowed", "XML 不允许包含 DTD 声明")


def _not_xml(fault: expat.ExpatError) -> NoReturn:
    line, column = fault.lineno, fault.offset + 1
    what = f"The content is not XML: {expat.ErrorString(fault.code)} at line {line}, column {column}"
    _refuse(what, f"内容不是合法的 XML：第 {line} 行第 {column} 列")


def _refuse(what: str, zh: str) -> NoReturn:
    raise FhirError.of(400, "structure", what, zh=zh)
