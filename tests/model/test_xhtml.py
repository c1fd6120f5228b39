"""Narrative text: the quick look and the parser agree; what a narrative may hold is tested as a rule in tests/validation/test_narrative.py.

https://hl7.org/fhir/R4/narrative.html#xhtml
"""

from __future__ import annotations

import json
import random
import tarfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fhir_server.model import xhtml
from fhir_server.model.xhtml import ATTRIBUTES, ELEMENTS, narrative_fault, narrative_problem

ROOT = '<div xmlns="http://www.w3.org/1999/xhtml">'
PIECES = [
    'x', ' ', '\n', '&#160;', '&amp;', '&lt;', '&nbsp;', '<p>', '</p>', '<p/>', '<b>', '</b>', '<br/>', '<script>', '</script>',
    '<a href="#x">', '</a>', '<a href="javascript:x">', "<a href='JAVASCRIPT:x'>", '<a href="&#106;avascript:x">',
    '<a href="java\tscript:x">', '<img src="a"/>', '<img/>', '<p onclick="x">', "<p\nonclick='x'>", '<!-- x -->', '<![CDATA[x]]>',
    '<?pi x?>', '<p xmlns="urn:x">', '<x:p xmlns:x="urn:x">', '</x:p>', '<p title="&lt;script>">', '<p title=">y">',
    '<p title=\'onclick="x"\'>', '<iframe>', '</iframe>', '<P>', '</P>', ']]>', '<', '>', '"', '\x01', '\ud800',
    '<td style="x" class="y">', '</td>',
]  # fmt: skip


def by_parser_alone(div: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a div is taken when there is no quick look."""
    with monkeypatch.context() as patched:
        patched.setattr(xhtml, "_surely_allowed", lambda div: False)
        patched.setattr(xhtml, "_PLAIN", xhtml.re.compile("(?!)"))
        problem = narrative_problem(div)
    return problem is None


def test_the_quick_look_never_takes_what_the_parser_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(20261123)
    taken = 0
    for _ in range(20_000):
        div = ROOT + "".join(chance.choices(PIECES, k=chance.randrange(6))) + "</div>"
        quick = narrative_problem(div) is None
        taken += quick
        if quick:
            assert by_parser_alone(div, monkeypatch), div
    assert taken > 400


@pytest.fixture(scope="module")
def narratives(corpus: Path) -> list[str]:
    """All narratives of the official examples."""
    found: list[str] = []
    with tarfile.open(corpus / "r4" / "examples-json.tar.gz") as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isfile() else None
            if opened:
                _collect(json.loads(opened.read()), found)
    return found


def _collect(value: Any, found: list[str]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("div"), str):
            found.append(value["div"])
        for inner in value.values():
            _collect(inner, found)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, found)


def test_the_narratives_of_the_official_examples_are_taken(narratives: list[str]) -> None:
    """Save one: the empty div of eventdefinition-example."""
    assert len(narratives) > 400
    refused = [div for div in narratives if narrative_problem(div)]
    assert len(refused) == 1
    (problem,) = [narrative_problem(div) for div in refused]
    assert problem and (problem.rule, problem.lenient, problem.malformed) == ("txt-2", True, False)


def test_most_narratives_need_no_second_look(narratives: list[str]) -> None:
    sure = [div for div in narratives if xhtml._PLAIN.match(div) or xhtml._surely_allowed(div)]
    assert len(sure) > 0.8 * len(narratives)


def test_the_permitted_elements_are_those_of_the_official_schema(corpus: Path) -> None:
    """fhir-xhtml.xsd; it leaves out some presentational ones that the specification's text permits."""
    with tarfile.open(corpus / "r4" / "definitions" / "xml-schemas.tar.gz") as archive:
        member = next(member for member in archive if member.name.endswith("fhir-xhtml.xsd"))
        opened = archive.extractfile(member)
        assert opened
        schema = ElementTree.parse(opened).getroot()
    xs = "{http://www.w3.org/2001/XMLSchema}"
    elements = {element.attrib["name"] for element in schema.iter(f"{xs}element") if "name" in element.attrib}
    attributes = {attribute.attrib["name"] for attribute in schema.iter(f"{xs}attribute") if "name" in attribute.attrib}
    assert elements
    assert elements <= ELEMENTS
    assert {name for name in attributes if not name.startswith("on")} <= ATTRIBUTES | {"xml:lang", "xml:space"}
    assert not any(name.startswith("on") for name in ATTRIBUTES)
    assert not ELEMENTS & {
        "script",
        "style",
        "form",
        "input",
        "iframe",
        "frame",
        "object",
        "embed",
        "link",
        "base",
        "head",
        "body",
        "meta",
        "svg",
        "applet",
    }


def test_html_checks_of_fhirpath_gives_the_same() -> None:
    assert narrative_fault(ROOT + "x</div>") is None
    assert "script" in (narrative_fault(ROOT + "<script/>x</div>") or "")


def test_a_large_narrative_is_read_in_little_time() -> None:
    """Nothing in the patterns goes back and forth: 2 MB of text, of tags, of blanks, of entities."""

    for content in (
        "x" * 2_000_000,
        "<p>" * 100 + "<b>x</b>" * 250_000 + "</p>" * 100,
        " " * 2_000_000,
        "&#160;" * 300_000,
        "<img " * 300_000,
        "<p title='" * 100_000,
    ):
        started = time.monotonic()
        narrative_problem(ROOT + content + "</div>")
        assert time.monotonic() - started < 3
