"""A resource as XML, from the same tables as everything else.

Elements stand in the order of their definition, whatever the order of the JSON; narrative is written as it was sent.
Specification: https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from fhir_server.model.definitions import TypeDef, definitions
from fhir_server.model.json_codec import Number, plain

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_INDENT = "  "
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})


class Member:
    """One JSON name of a type: where it stands in XML, and what it holds ('attribute', 'primitive', 'resource', 'xhtml' or 'complex')."""

    __slots__ = ("holds", "many", "name", "order", "type")

    def __init__(self, name: str, order: int, many: bool, type: str, holds: str) -> None:
        self.name, self.order, self.many, self.type, self.holds = name, order, many, type, holds


_members: dict[str, dict[str, Member]] = {}


def members(type: str) -> dict[str, Member]:
    """The members of a type by JSON name; computed once."""
    known = _members.get(type)
    if known is None:
        known = _members[type] = _computed(definitions().types[type])
    return known


def _computed(type: TypeDef) -> dict[str, Member]:
    kind = definitions().types.kind
    found: dict[str, Member] = {}
    order = {id(element): at for at, element in enumerate(type.elements.values())}
    for name, (element, of) in type.by_json.items():
        if (name == "id" and type.kind != "resource") or (name == "url" and type.name == "Extension"):
            holds = "attribute"
        elif of == "xhtml":
            holds = "xhtml"
        elif of == "Resource":
            holds = "resource"
        else:
            holds = "primitive" if kind(of) == "primitive" else "complex"
        found[name] = Member(name, order[id(element)], element.max != 1, of, holds)
    return found


def to_xml(resource: Mapping[str, Any], *, pretty: bool = False) -> bytes:
    """The XML document of a valid resource, UTF-8. Values of JSON come from `json_codec.loads`, so that digits are kept."""
    parts = [DECLARATION]
    _resource(parts, resource, f' xmlns="{FHIR}"', "\n" if pretty else "")
    if pretty:
        parts.append("\n")
    return "".join(parts).encode()


def _resource(parts: list[str], resource: Mapping[str, Any], namespace: str, line: str) -> None:
    type = resource["resourceType"]
    _complex(parts, type, type, resource, namespace, line)


def _complex(parts: list[str], tag: str, type: str, value: Mapping[str, Any], attributes: str, line: str) -> None:
    """`line`: what begins a new line at this depth; empty where nothing is indented."""
    known = members(type)
    inside: list[Member] = []
    for key in value:
        if key == "resourceType" and key not in known:
            continue
        member = known[key.removeprefix("_")]
        if member.holds == "attribute":
            attributes += f' {key}="{_text(value[key])}"'
        elif key[0] != "_" or key[1:] not in value:
            inside.append(member)
    if not inside:
        parts.append(f"{line}<{tag}{attributes}/>")
        return
    parts.append(f"{line}<{tag}{attributes}>")
    deeper = line and line + _INDENT
    for member in sorted(inside, key=lambda one: one.order):
        _member(parts, member, value, deeper)
    parts.append(f"{line}</{tag}>")


def _member(parts: list[str], member: Member, holder: Mapping[str, Any], line: str) -> None:
    name: str = member.name
    value: Any = holder.get(name)
    if member.holds == "primitive":
        beside = holder.get("_" + name)
        if member.many:
            values, extras = value or [], beside or []
            for at in range(max(len(values), len(extras))):
                _primitive(parts, name, values[at] if at < len(values) else None, extras[at] if at < len(extras) else None, line)
        else:
            _primitive(parts, name, value, beside, line)
        return
    for one in value if member.many else (value,):
        if member.holds == "complex":
            _complex(parts, name, member.type, one, "", line)
        elif member.holds == "xhtml":
            parts.append(line + one)
        else:
            parts.append(f"{line}<{name}>")
            _resource(parts, one, "", line and line + _INDENT)
            parts.append(f"{line}</{name}>")


def _primitive(parts: list[str], name: str, value: Any, beside: Mapping[str, Any] | None, line: str) -> None:
    attributes = "" if value is None else f' value="{_text(value)}"'
    if beside:
        _complex(parts, name, "Element", beside, attributes, line)
    else:
        parts.append(f"{line}<{name}{attributes}/>")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.translate(_ESCAPED)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.text
    return plain(value) if isinstance(value, Decimal) else orjson.dumps(value).decode()
