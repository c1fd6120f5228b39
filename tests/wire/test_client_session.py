"""A session of a third-party client, as an application would hold it: fhirpy, from PyPI. https://github.com/beda-software/fhir-py"""

from __future__ import annotations

import pytest

fhirpy = pytest.importorskip("fhirpy", reason="fhirpy is a development dependency (make test installs it)")

from fhirpy.base.exceptions import MultipleResourcesFound, OperationOutcome, ResourceNotFound  # noqa: E402


@pytest.fixture
def app(server):
    return fhirpy.SyncFHIRClient(server.base)


def test_create_read_update_delete(app):
    person = app.resource("Patient", name=[{"family": "Session", "given": ["Fay"]}], birthDate="1980-02-03")
    person.save()
    assert person.id
    assert person["meta"]["versionId"] == "1"

    again = app.reference("Patient", person.id).to_resource()
    assert again.serialize() == person.serialize()

    again["active"] = True
    again.save()
    assert again["meta"]["versionId"] == "2"

    again.patch(active=False)
    person.refresh()
    assert person["active"] is False

    person.delete()
    with pytest.raises((ResourceNotFound, OperationOutcome)):
        app.reference("Patient", person.id).to_resource()


def test_search_sort_count_and_page(app):
    for number in range(15):
        app.resource("Patient", name=[{"family": "Paging"}], identifier=[{"system": "urn:session", "value": f"p{number:02}"}]).save()
    found = app.resources("Patient").search(name="Paging").limit(4).fetch_all()
    assert len(found) == 15
    assert len({person.id for person in found}) == 15
    assert app.resources("Patient").search(name="Paging").count() == 15
    assert app.resources("Patient").search(identifier="urn:session|p03").get()["name"][0]["family"] == "Paging"
    with pytest.raises(MultipleResourcesFound):
        app.resources("Patient").search(name="Paging").get()
    assert app.resources("Patient").search(identifier="urn:session|none").first() is None


def test_references_and_includes(app):
    person = app.resource("Patient", name=[{"family": "Linked"}])
    person.save()
    beat = app.resource("Observation", status="final", code={"text": "pulse"}, subject=person.to_reference())
    beat.save()
    bundle = app.resources("Observation").search(subject=person.to_reference()).include("Observation", "subject").fetch_raw()
    assert {entry["search"]["mode"] for entry in bundle["entry"]} == {"match", "include"}
    assert beat["subject"].to_resource().id == person.id


def test_get_or_create_and_conditional_update(app):
    wish = app.resource("Patient", identifier=[{"system": "urn:session", "value": "only-one"}])
    first, created = app.resources("Patient").search(identifier="urn:session|only-one").get_or_create(wish)
    assert created
    second, created = app.resources("Patient").search(identifier="urn:session|only-one").get_or_create(wish)
    assert not created
    assert first.id == second.id
    wish["active"] = True
    updated, created = app.resources("Patient").search(identifier="urn:session|only-one").update(wish)
    assert not created
    assert updated["active"] is True


def test_transaction(app):
    bundle = app.resource(
        "Bundle",
        type="transaction",
        entry=[
            {
                "fullUrl": "urn:uuid:0b5a2b8c-5e0c-4f6b-9f39-3c1c6f4a9a01",
                "resource": {"resourceType": "Patient"},
                "request": {"method": "POST", "url": "Patient"},
            },
            {
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": {"reference": "urn:uuid:0b5a2b8c-5e0c-4f6b-9f39-3c1c6f4a9a01"},
                },
                "request": {"method": "POST", "url": "Observation"},
            },
        ],
    )
    bundle.save()
    locations = [entry["response"]["location"] for entry in bundle["entry"]]
    assert [entry["response"]["status"][:3] for entry in bundle["entry"]] == ["201", "201"]
    place = locations[1].rpartition("Observation/")[2].partition("/")[0]
    subject = app.reference("Observation", place).to_resource()["subject"]["reference"]
    assert subject in locations[0]


def test_invalid_content_raises_with_an_outcome(app):
    with pytest.raises(OperationOutcome) as refused:
        app.resource("Patient", gender="maleX").save()
    assert "Patient.gender" in str(refused.value.resource)
