"""Links that are canonicals: includes, chains and `_has`. https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/references.html#canonical"""

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


def matched(client, place: str) -> set[str]:
    bundle = client.get(place + "&_count=1000").json()
    return {entry["resource"]["id"] for entry in bundle.get("entry", ())}


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


@pytest.mark.parametrize("link", ["questionnaire.title=sleep", "questionnaire:Questionnaire.title=sleep"])
def test_a_chain_follows_canonicals(client, forms, link):
    found = matched(client, f"QuestionnaireResponse?{link}&questionnaire.url={forms['url']}")
    assert found == {forms["any"], forms["second"]}


def test_a_chain_follows_canonicals_behind_other_links(client, forms):
    subject = client.post("Patient", json={"resourceType": "Patient"}).json()["id"]
    answers = client.get(f"QuestionnaireResponse/{forms['second']}").json() | {"subject": {"reference": f"Patient/{subject}"}}
    client.put(f"QuestionnaireResponse/{forms['second']}", json=answers)
    assert matched(client, f"Patient?_has:QuestionnaireResponse:subject:questionnaire.url={forms['url']}") == {subject}
    assert matched(client, f"Questionnaire?_has:QuestionnaireResponse:questionnaire:subject={subject}") == {forms["form"]}


@pytest.mark.parametrize(("which", "expected"), [("any", True), ("second", True), ("first", False), ("other", False)])
def test_has_follows_canonicals(client, forms, which, expected):
    found = matched(client, f"Questionnaire?url={forms['url']}&_has:QuestionnaireResponse:questionnaire:_id={forms[which]}")
    assert found == ({forms["form"]} if expected else set())


def test_a_canonical_chain_may_choose_what_is_written(client, forms):
    """https://hl7.org/fhir/R4/http.html#ccreate"""
    again = {"resourceType": "QuestionnaireResponse", "status": "completed"}
    criteria = f"questionnaire.url={forms['url']}&_id={forms['any']}"
    answer = client.post("QuestionnaireResponse", json=again, headers={"If-None-Exist": criteria})
    assert (answer.status_code, answer.headers["location"].split("/")[-3]) == (200, forms["any"])
