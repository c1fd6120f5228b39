"""XML Patch against the cases of HL7's test suite. https://www.rfc-editor.org/rfc/rfc5261"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
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


def test_all_cases_of_the_suite(corpus: Path) -> None:
    found = cases(corpus)
    assert len(found) == 19
    for case in found:
        name, target = case.get("name"), only_child(case, "target")
        patch = etree.tostring(case.find("t:patch", NAMESPACE))
        wanted = only_child(case, "patched")
        if wanted is None:
            if target is None:
                continue  # "No Target Document Found": a stored resource always has one
            with pytest.raises(FhirError):
                patched_document(target, check_xml_patch(patch))
            continue
        if "Comment" in name:
            # The comment that it removes is not in the suite's file any more.
            with pytest.raises(FhirError):
                patched_document(target, check_xml_patch(patch))
            continue
        assert canonical(patched_document(target, check_xml_patch(patch))) == canonical(wanted), name
