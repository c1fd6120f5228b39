"""XML Patch against the cases of HL7's test suite. https://www.rfc-editor.org/rfc/rfc5261"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from fhir_server.errors import FhirError
from fhir_server.interactions.patch_xml import apply_xml_patch, check_xml_patch, patched_document

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


DIV = '<div xmlns="http://www.w3.org/1999/xhtml"><p>a<b>x</b></p></div>'
PATIENT = {"resourceType": "Patient", "id": "a", "text": {"status": "generated", "div": DIV}, "gender": "male"}


@pytest.mark.parametrize(
    ("operations", "status", "english", "chinese"),
    [
        ('<remove sel=" "/>', 400, "'sel' is missing", "缺少 sel"),
        ('<remove sel="Patient/gender/@*"/>', 400, "'@*' must not stand", "不允许“@*”"),
        ('<replace sel="Patient/text/h:div/h:p/h:b/text()/@value">x</replace>', 422, "only an element has attributes", "只有元素才有属性"),
        ('<replace sel="Patient/gender/@value/@value">x</replace>', 422, "only an element has attributes", "只有元素才有属性"),
        ('<replace sel="Patient/gender/@code">x</replace>', 422, "no attribute 'code'", "没有属性“code”"),
        ('<remove sel="Patient/name"/>', 422, "meets 0 nodes", "命中 0 个节点"),
        ('<add sel="Patient/gender/@value">x</add>', 422, "to an element only", "只能向元素"),
        ('<add sel="Patient/gender" type="@value">x</add>', 422, "is there already", "已存在"),
        ('<add sel="Patient/gender" type="value">x</add>', 422, "not of the form @name", "@名称"),
        ('<add sel="Patient/gender" pos="first"/>', 422, "none of prepend", "应为 prepend"),
        ('<replace sel="Patient/gender"/>', 422, "exactly one node, not by 0", "而不是 0 个"),
        ('<remove sel="Patient"/>', 422, "exactly one root element", "一个根元素"),
        ('<remove sel="Patient"/><remove sel="Patient"/>', 422, "exactly one root element", "一个根元素"),
        ('<replace sel="Patient"><!-- x --></replace>', 422, "exactly one root element", "一个根元素"),
        ('<replace sel="Patient"><!-- x --></replace><add sel="node()">x</add>', 422, "exactly one root element", "一个根元素"),
        ('<replace sel="Patient"><?x y?></replace><add sel="Patient/gender">x</add>', 422, "exactly one root element", "一个根元素"),
    ],
)
def test_what_cannot_be_applied_is_told_in_both_languages(operations: str, status: int, english: str, chinese: str) -> None:
    with pytest.raises(FhirError) as refused:
        apply_xml_patch(PATIENT, check_xml_patch(f'<diff xmlns="http://hl7.org/fhir">{operations}</diff>'.encode()))
    (issue,) = refused.value.issues
    assert refused.value.status == status and english in issue.diagnostics and chinese in (issue.zh or "")
