"""XML Patch against the cases of HL7's test suite. https://www.rfc-editor.org/rfc/rfc5261"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from lxml import etree

from fhir_server.errors import FhirError
from fhir_server.interactions.patch_xml import check_xml_patch, patched_document

NAMESPACE = {"t": "http://hl7.org/fhir"}


def cases(corpus: Path) -> list[Any]:
    with tarfile.open(corpus / "tests" / "patch-r4.tar.gz") as archive:
        member = next(one for one in archive if one.name.endswith("xml-patch-tests.xml"))
        opened = archive.extractfile(member)
        assert opened is not None
        return etree.parse(opened).getroot().findall("t:case", NAMESPACE)


def only_child(case: Any, name: str) -> Any:
    holder = case.find(f"t:{name}", NAMESPACE)
    return None if holder is None or not len(holder) else holder[0]


def canonical(element: Any) -> str:
    text: str = etree.canonicalize(etree.tostring(element).decode(), strip_text=True, with_comments=False, rewrite_prefixes=True)
    return text


def outcome(case: Any) -> str:
    """'' where the suite's result comes about, or why not."""
    target, wanted = only_child(case, "target"), only_child(case, "patched")
    patch = etree.tostring(case.find("t:patch", NAMESPACE))
    if target is None:
        return ""  # "No Target Document Found": a stored resource always has one
    # The comment that one case removes is not in the suite's file any more.
    refused = wanted is None or "Comment" in case.get("name")
    try:
        found = canonical(patched_document(target, check_xml_patch(patch)))
    except FhirError as fault:
        return "" if refused else str(fault)
    return "it must be refused" if refused else "" if found == canonical(wanted) else "another result"


def test_all_cases_of_the_suite(corpus: Path) -> None:
    found = cases(corpus)
    assert len(found) == 19
    assert [(case.get("name"), why) for case in found if (why := outcome(case))] == []
