"""FHIRPath Patch (https://hl7.org/fhir/R4/fhirpatch.html): the official cases, and what the text says beyond them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fhir_server.errors import FhirError
from fhir_server.interactions.patch_fhirpath import apply_fhirpath_patch, check_fhirpath_patch
from fhir_server.interactions.patch_path import locate, parse_path
from fhir_server.model.definitions import definitions

FHIR = "{http://hl7.org/fhir}"
XHTML = "{http://www.w3.org/1999/xhtml}"


def json_of(node: ElementTree.Element, type_name: str) -> tuple[Any, dict[str, Any]]:
    """An XML element of the test file as JSON: value, and id/extensions of a primitive."""
    definition = definitions().types[type_name]
    content: dict[str, Any] = {}
    if "id" in node.attrib:
        content["id"] = node.attrib["id"]
    if "url" in node.attrib:
        content["url"] = node.attrib["url"]
    for child in node:
        if child.tag.startswith(XHTML):
            content["div"] = ElementTree.tostring(child, encoding="unicode")
            continue
        name = child.tag.removeprefix(FHIR)
        element, code = definition.by_json[name]
        value, shadow = json_of(child, code)
        if element.max == 1:
            if value is not None:
                content[name] = value
            if shadow:
                content["_" + name] = shadow
        else:
            content.setdefault(name, []).append(value)
            if shadow:
                content.setdefault("_" + name, []).append(shadow)
    if definition.kind != "primitive":
        return content, {}
    text = node.attrib.get("value")
    value = text
    if type_name == "boolean":
        value = text == "true"  # type: ignore[assignment]
    elif type_name in ("integer", "positiveInt", "unsignedInt"):
        value = int(text or "")  # type: ignore[assignment]
    return value, content


def resource_of(node: ElementTree.Element | None) -> dict[str, Any]:
    assert node is not None
    root = node[0]
    name = root.tag.removeprefix(FHIR)
    content, _ = json_of(root, name)
    return {"resourceType": name, **content}


def official_cases(corpus: Path) -> list[ElementTree.Element]:
    with tarfile.open(corpus / "tests" / "patch-r4.tar.gz") as archive:
        member = next(m for m in archive if m.name.endswith("fhir-patch-tests.xml"))
        content = archive.extractfile(member)
        assert content
        return ElementTree.parse(io.BytesIO(content.read())).getroot().findall(f"{FHIR}case")


def with_plain_narrative(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource with its XHTML in canonical form: prefixes and white space between elements do not count."""
    if "text" in resource:
        div = ElementTree.canonicalize(resource["text"]["div"], strip_text=True, rewrite_prefixes=True)
        resource["text"]["div"] = div
    return resource


def test_the_official_fhirpath_patch_cases(corpus: Path) -> None:
    cases = official_cases(corpus)
    assert len(cases) == 20
    for case in cases:
        before = resource_of(case.find(f"{FHIR}input"))
        changes = check_fhirpath_patch(resource_of(case.find(f"{FHIR}diff")))
        error = case.find(f"{FHIR}error")
        if error is not None:
            with pytest.raises(FhirError) as refused:
                apply_fhirpath_patch(before, changes)
            assert error.attrib["msg"] in str(refused.value)
        else:
            after = with_plain_narrative(apply_fhirpath_patch(before, changes))
            assert after == with_plain_narrative(resource_of(case.find(f"{FHIR}output"))), case.attrib["name"]


def operation(type: str, path: str, **parts: Any) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [{"name": "type", "valueCode": type}, {"name": "path", "valueString": path}]
    for name, value in parts.items():
        if name == "value":
            listed.append({"name": "value", **value})
        elif isinstance(value, int):
            listed.append({"name": name, "valueInteger": value})
        else:
            listed.append({"name": name, "valueString": value})
    return {"name": "operation", "part": listed}


def patched(resource: dict[str, Any], *operations: dict[str, Any]) -> dict[str, Any]:
    return apply_fhirpath_patch(resource, check_fhirpath_patch({"resourceType": "Parameters", "parameter": list(operations)}))


def observation(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}, **more}


def test_a_choice_takes_the_json_name_of_the_values_type() -> None:
    quantity = {"value": 5.4, "unit": "g"}
    added = patched(observation(), operation("add", "Observation", name="value", value={"valueQuantity": quantity}))
    assert added == observation(valueQuantity=quantity)
    replaced = patched(added, operation("replace", "Observation.value", value={"valueString": "much"}))
    assert replaced == observation(valueString="much")


def test_a_choice_refuses_a_type_that_it_does_not_have() -> None:
    with pytest.raises(FhirError, match="cannot be of type Address"):
        patched(observation(), operation("add", "Observation", name="value", value={"valueAddress": {"city": "x"}}))


def test_a_backbone_element_is_built_from_parts() -> None:
    parts = [
        {"name": "relationship", "valueCodeableConcept": {"text": "mother"}},
        {"name": "relationship", "valueCodeableConcept": {"text": "carer"}},
        {"name": "name", "part": [{"name": "family", "valueString": "Li"}, {"name": "given", "valueString": "Na"}]},
        {"name": "gender", "valueCode": "female"},
    ]
    result = patched({"resourceType": "Patient"}, operation("add", "Patient", name="contact", value={"part": parts}))
    assert result["contact"] == [
        {"relationship": [{"text": "mother"}, {"text": "carer"}], "name": {"family": "Li", "given": ["Na"]}, "gender": "female"}
    ]


def test_nested_backbone_elements_and_content_references_are_built_from_parts() -> None:
    inner = [{"name": "linkId", "valueString": "1.1"}, {"name": "type", "valueCode": "string"}]
    parts = [{"name": "linkId", "valueString": "1"}, {"name": "type", "valueCode": "group"}, {"name": "item", "part": inner}]
    result = patched(
        {"resourceType": "Questionnaire", "status": "draft"}, operation("add", "Questionnaire", name="item", value={"part": parts})
    )
    assert result["item"] == [{"linkId": "1", "type": "group", "item": [{"linkId": "1.1", "type": "string"}]}]


def test_lists_of_primitives_keep_their_extensions_in_step() -> None:
    note = {"extension": [{"url": "http://example.org/x", "valueString": "n"}]}
    patient = {"resourceType": "Patient", "name": [{"given": ["a", "b", "c"], "_given": [None, note, None]}]}
    inserted = patched(patient, operation("insert", "Patient.name[0].given", index=0, value={"valueString": "z"}))
    assert inserted["name"] == [{"given": ["z", "a", "b", "c"], "_given": [None, None, note, None]}]
    moved = patched(patient, operation("move", "Patient.name[0].given", source=1, destination=0))
    assert moved["name"] == [{"given": ["b", "a", "c"], "_given": [note, None, None]}]
    removed = patched(patient, operation("delete", "Patient.name[0].given[1]"))
    assert removed["name"] == [{"given": ["a", "c"]}]


def test_an_extension_of_a_primitive_can_be_added_and_deleted() -> None:
    extension = {"url": "http://example.org/time", "valueDateTime": "1974-12-25T14:35:45-05:00"}
    patient = {"resourceType": "Patient", "birthDate": "1974-12-25"}
    added = patched(patient, operation("add", "Patient.birthDate", name="extension", value={"valueExtension": extension}))
    # An Extension is no type of Parameters.parameter.value[x] in R4; tools send it by parts too.
    assert added == {**patient, "_birthDate": {"extension": [extension]}}
    assert patched(added, operation("delete", "Patient.birthDate.extension('http://example.org/time')")) == patient


def test_deleting_what_is_not_there_changes_nothing() -> None:
    assert patched(observation(), operation("delete", "Observation.note[3]")) == observation()


def test_deleting_several_at_once_is_refused() -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "a"}, {"family": "b"}]}
    with pytest.raises(FhirError, match="names 2 elements"):
        patched(patient, operation("delete", "Patient.name"))


def test_adding_to_an_element_that_does_not_repeat_and_is_there_is_refused() -> None:
    with pytest.raises(FhirError, match="there already"):
        patched(observation(), operation("add", "Observation", name="status", value={"valueCode": "amended"}))


@pytest.mark.parametrize(("index", "allowed"), [(0, True), (2, True), (3, False), (-1, False)])
def test_an_insert_index_reaches_from_the_start_to_the_end(index: int, allowed: bool) -> None:
    patient = {"resourceType": "Patient", "name": [{"family": "a"}, {"family": "b"}]}
    insert = operation("insert", "Patient.name", index=index, value={"valueHumanName": {"family": "new"}})
    if allowed:
        assert patched(patient, insert)["name"][index] == {"family": "new"}
    else:
        with pytest.raises(FhirError, match=r"outside 0\.\.2"):
            patched(patient, insert)


def test_the_resource_given_in_is_not_changed_when_a_later_operation_fails() -> None:
    before = observation(note=[{"text": "a"}])
    with pytest.raises(FhirError):
        patched(before, operation("delete", "Observation.note[0]"), operation("replace", "Observation.issued", value={"valueInstant": "x"}))
    assert before == observation(note=[{"text": "a"}])


@pytest.mark.parametrize(
    "parameters",
    [
        {"parameter": [{"name": "op"}]},
        {"parameter": [{"name": "operation", "part": [{"name": "type", "valueCode": "spam"}]}]},
        {"parameter": [operation("add", "Patient", name="active")]},
        {"parameter": [operation("insert", "Patient.name", value={"valueHumanName": {}})]},
        {"parameter": [operation("delete", "Patient.name.where(use = 'official'")]},
        {"parameter": [operation("delete", "Patient.name | Patient.telecom")]},
        {"parameter": [operation("delete", "Patient.name.repeat(use)")]},
        {"parameter": [operation("delete", "")]},
    ],
)
def test_what_is_no_fhirpath_patch_is_400(parameters: dict[str, Any]) -> None:
    with pytest.raises(FhirError) as refused:
        check_fhirpath_patch({"resourceType": "Parameters", **parameters})
    assert refused.value.status == 400


PATIENT = {
    "resourceType": "Patient",
    "name": [{"use": "usual", "given": ["Jim"]}, {"use": "official", "given": ["Peter", "James"], "family": "Chalmers"}],
    "extension": [{"url": "http://example.org/a", "valueString": "1"}, {"url": "http://example.org/b", "valueCode": "2"}],
    "deceasedBoolean": False,
    "contained": [{"resourceType": "Organization", "id": "x", "name": "Acme"}],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("Patient.name.given", ["Jim", "Peter", "James"]),
        ("name[1].given[0]", ["Peter"]),
        ("Patient.name.where(use = 'official').given.last()", ["James"]),
        ("Patient.name.where(use = 'official' and given.exists()).family", ["Chalmers"]),
        ("Patient.name.given.where($this = 'James')", ["James"]),
        ("Patient.extension('http://example.org/b').value", ["2"]),
        ("Patient.extension.where(url = 'http://example.org/a').value.ofType(string)", ["1"]),
        ("(Patient.deceased as boolean)", [False]),
        ("Patient.deceased.ofType(dateTime)", []),
        ("Patient.deceasedBoolean", [False]),
        ("Patient.contained.ofType(Organization).name", ["Acme"]),
        ("Patient.contained.where(id = 'x').name", ["Acme"]),
        ("Patient.name.skip(1).given.first()", ["Peter"]),
        ("Patient.name.tail().take(1).`family`", ["Chalmers"]),
        ("Patient.photo", []),
    ],
)
def test_a_path_names_places(path: str, values: list[Any]) -> None:
    assert [place.value for place in locate(PATIENT, path)] == values


def test_brackets_and_quotes_inside_a_criterion_do_not_end_it() -> None:
    steps = parse_path(r"Patient.name.where(text = 'a)] \' b' and (use = 'x')).given")
    assert [step.text for step in steps] == ["Patient", "name", "where", "given"]
