"""The official FHIRPath test suite for R4, read from its XML form: cases, inputs, and the comparison with what is expected.

Source: HL7 fhir-test-cases, tests-fhir-r4.xml (`data/tests/fhirpath-r4.tar.gz`)
"""

from __future__ import annotations

import json
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from fhir_server.fhirpath import Item
from fhir_server.model.definitions import definitions

FHIR = "{http://hl7.org/fhir}"
XHTML = "{http://www.w3.org/1999/xhtml}"


@dataclass(frozen=True)
class Case:
    """`invalid`: '' or the stage that must fail (syntax, semantic, execution); `outputs`: (type or '', text)."""

    name: str
    group: str
    expression: str
    input: str
    outputs: tuple[tuple[str, str], ...]
    invalid: str
    strict: bool
    ordered: bool
    check_order: bool


class Suite:
    """The archive: its cases and its inputs as JSON dicts."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as tar:
            self._files = {
                Path(member.name).name: tar.extractfile(member).read()  # type: ignore[union-attr]
                for member in tar.getmembers()
                if member.isfile()
            }
        self.cases = self._read()

    def _read(self) -> list[Case]:
        cases: list[Case] = []
        root = ET.fromstring(self._files["tests-fhir-r4.xml"])
        for group in root.findall("group"):
            for test in group.findall("test"):
                expression = test.find("expression")
                assert expression is not None
                outputs = tuple((output.get("type", ""), output.text or "") for output in test.findall("output"))
                cases.append(
                    Case(
                        test.attrib["name"], group.attrib["name"], expression.text or "", test.get("inputfile", ""), outputs,
                        expression.get("invalid", ""), test.get("mode") == "strict", test.get("ordered") != "false",
                        test.get("checkOrderedFunctions") == "true",
                    )
                )  # fmt: skip
        return cases

    @cache  # noqa: B019 (one suite lives as long as the tests)
    def input(self, name: str) -> dict[str, Any]:
        """An input by its file name; XML is converted by the R4 definitions."""
        if not name:
            return {"resourceType": "Patient"}
        raw = self._files[name]
        return json.loads(raw, parse_float=Decimal) if name.endswith(".json") else resource_from_xml(raw)


def resource_from_xml(raw: bytes) -> dict[str, Any]:
    """A resource in FHIR XML as its JSON dict (test-side; enough for the suite's inputs)."""
    return _resource(ET.fromstring(raw))


def _resource(element: ET.Element) -> dict[str, Any]:
    name = element.tag.removeprefix(FHIR)
    return {"resourceType": name, **_object(element, name)}


def _object(element: ET.Element, type_name: str) -> dict[str, Any]:
    types = definitions().types
    found: dict[str, Any] = {key: value for key, value in element.attrib.items() if key in ("id", "url")}
    for child in element:
        if child.tag.startswith(XHTML):
            found["div"] = ET.tostring(child, encoding="unicode")
            continue
        name = child.tag.removeprefix(FHIR)
        definition, kind = types[type_name].by_json[name]
        value, beside = _value(child, kind)
        many = definition.max != 1
        if many:
            found.setdefault(name, []).append(value)
            if beside or "_" + name in found:
                extras = found.setdefault("_" + name, [None] * (len(found[name]) - 1))
                extras += [None] * (len(found[name]) - 1 - len(extras)) + [beside or None]
        else:
            if value is not None:
                found[name] = value
            if beside:
                found["_" + name] = beside
    return found


def _value(element: ET.Element, kind: str) -> tuple[Any, dict[str, Any]]:
    """The JSON value of an element, and for a primitive what stands beside it."""
    if kind in ("Resource", "DomainResource"):
        return _resource(element[0]), {}
    if definitions().types.kind(kind) != "primitive":
        return _object(element, kind), {}
    text = element.get("value")
    beside = _object(element, "Element") if len(element) or element.get("id") else {}
    if text is None:
        return None, beside
    if kind == "boolean":
        return text == "true", beside
    if kind in ("integer", "positiveInt", "unsignedInt"):
        return int(text), beside
    return (Decimal(text) if kind == "decimal" else text), beside


def shown(item: Item) -> str:
    """An item as the suite writes it: dates with @, quantities as literals."""
    value = item.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if item.type == "System.Quantity":
        return f"{value['value']} '{value['code']}'"
    if item.type in ("date", "dateTime", "instant", "System.Date", "System.DateTime"):
        return f"@{value}"
    return f"@T{value}" if item.type in ("time", "System.Time") else str(value)
