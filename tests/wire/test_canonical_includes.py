"""`_include` and `_revinclude` along canonicals. https://hl7.org/fhir/R4/search.html#revinclude, https://hl7.org/fhir/R4/references.html#canonical"""

from __future__ import annotations

import pytest

from tests.wire.resources import unique


@pytest.fixture
def forms(client):
    """A questionnaire in version 2, and answers to it: without a version, of version 2, of version 1, and to another one."""
    url = f"http://forms.example/Questionnaire/{unique('q')}"

    def made(resource: dict) -> str:
        answer = client.post(resource["resourceType"], json=resource)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def answers(canonical: str) -> str:
        return made({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": canonical})

    form = made({"resourceType": "Questionnaire", "status": "active", "url": url, "version": "2", "title": "Sleep"})
    return {
        "url": url,
        "form": form,
        "any": answers(url),
        "second": answers(f"{url}|2"),
        "first": answers(f"{url}|1"),
        "other": answers(f"{url}x"),
    }


def included(client, place: str, **query: str) -> set[str]:
    bundle = client.get(place, params=query).json()
    return {entry["resource"]["id"] for entry in bundle.get("entry", ()) if entry["search"]["mode"] == "include"}


@pytest.mark.parametrize("along", ["QuestionnaireResponse:questionnaire", "QuestionnaireResponse:*", "*"])
def test_revinclude_brings_what_names_a_match_by_its_canonical(client, forms, along):
    assert included(client, "Questionnaire", url=forms["url"], _revinclude=along) == {forms["any"], forms["second"]}


@pytest.mark.parametrize(("which", "expected"), [("any", True), ("second", True), ("first", False), ("other", False)])
def test_include_follows_a_canonical_and_its_version(client, forms, which, expected):
    found = included(client, "QuestionnaireResponse", _id=forms[which], _include="QuestionnaireResponse:questionnaire")
    assert found == ({forms["form"]} if expected else set())
