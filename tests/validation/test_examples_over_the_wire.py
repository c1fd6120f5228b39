"""Every official example instance by HTTP: the valid ones are stored and come back unchanged, the flawed ones are refused with a reason.

https://hl7.org/fhir/R4/downloads.html (examples)
"""

from __future__ import annotations

import json
from typing import Any

JSON = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}

FLAWED = {
    "activitydefinition-administer-zika-virus-exposure-assessment.json": ("structure", "ActivityDefinition.timing._event"),
    "activitydefinition-example.json": ("structure", "ActivityDefinition.timing._event"),
    "activitydefinition-order-serum-zika-dengue-virus-igm.json": ("structure", "ActivityDefinition.timing._event"),
    "activitydefinition-provide-mosquito-prevention-advice.json": ("structure", "ActivityDefinition.timing._event"),
    "plandefinition-example.json": ("structure", "PlanDefinition.contained[0].timing._event"),
    "plandefinition-example-cardiology-os.json": ("structure", "PlanDefinition.contained[1].timing._event"),
}
"""The flawed examples that are written by hand. All other flawed ones are questionnaires generated without `linkId` (1..1)."""


class Digits(str):
    """A number as it was written: 1.0 and 1.00 differ."""


def exact(raw: bytes) -> Any:
    """JSON in which numbers are their digits."""
    return json.loads(raw, parse_float=Digits, parse_int=Digits)


def with_id(name: str, content: bytes) -> bytes:
    """The content of an example as a PUT needs it: one has no id."""
    return content.replace(b"{", b'{"id":"example",', 1) if name == "parameters-example.json" else content


def without_own_meta(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without what the server sets; a `meta` that is empty then was not sent."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    rest = {name: value for name, value in resource.items() if name != "meta"}
    return {**rest, "meta": meta} if meta else rest


def test_the_index_and_the_archive_belong_together(index, official):
    assert index.keys() == official.keys()
    assert len(official) == 549
    assert list(index.values()).count("yes") == 429


def test_every_valid_example_is_stored_and_comes_back_unchanged(client, index, official):
    stored, changed, refused = 0, [], {}
    for name, raw in official.items():
        if index[name] == "no":
            continue
        content = with_id(name, raw)
        sent = exact(content)
        place = f"{sent['resourceType']}/{sent['id']}"
        answer = client.put(place, content=content, headers=JSON)
        if answer.status_code not in (200, 201):
            refused[name] = (answer.status_code, answer.text[:300])
            continue
        stored += 1
        if any(without_own_meta(exact(got.content)) != without_own_meta(sent) for got in (answer, client.get(place, headers=JSON))):
            changed.append(name)
    assert refused == {}
    assert changed == []
    assert stored == 430


def test_every_flawed_example_is_refused_with_the_element_at_fault(client, index, official):
    for name in (name for name, state in index.items() if state == "no"):
        sent = exact(official[name])
        place = f"{sent['resourceType']}/{sent['id']}"
        answer = client.put(place, content=official[name], headers=JSON)
        issues = answer.json()["issue"]
        if name in FLAWED:
            assert answer.status_code == 400, name
            assert [(issue["code"], *issue["expression"]) for issue in issues] == [FLAWED[name]]
        else:
            assert name.endswith("-questionnaire.json")
            assert answer.status_code == 422, name
            found = [(issue["code"], issue["expression"][0]) for issue in issues if issue["severity"] == "error"]
            assert found, name
            assert all(code == "required" and where.endswith(".linkId") for code, where in found), name
        assert client.get(place).status_code == 404, f"{name} left something behind"
