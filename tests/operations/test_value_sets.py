"""What a value set says of its codes: versions, filters that cannot be answered, codes that are named, stored expansions.

Specification: https://hl7.org/fhir/R4/valueset.html#compositions, https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.test_terminology import SYSTEM, _stored, parameters, refused, value_set, values  # noqa: F401 (a fixture)

Json = dict[str, Any]
W = "http://example.org/fhir/CodeSystem/versioned"


def system(version: str, *codes: Json, **more: Any) -> Json:
    base = {"resourceType": "CodeSystem", "url": W, "version": version, "status": "active", "content": "complete"}
    return base | {"id": f"versioned-{version}", "concept": list(codes)} | more


@pytest.fixture(autouse=True)
def _versions(client):
    """`k` is used in version 1 and no longer in version 2; each version has a code of its own."""
    gone = {"code": "k", "display": "K of 2", "property": [{"code": "inactive", "valueBoolean": True}]}
    own = [{"code": "inactive", "type": "boolean"}]
    zh = [{"language": "zh", "value": "一"}]
    supplement = {
        "resourceType": "CodeSystem", "id": "versioned-zh", "url": W + "-zh", "status": "active", "content": "supplement",
        "supplements": W + "|1", "concept": [{"code": "k", "designation": zh}],
    }  # fmt: skip
    one = system("1", {"code": "k", "display": "K of 1"}, {"code": "only1", "display": "Only 1"})
    for resource in (one, system("2", gone, {"code": "only2"}, property=own), supplement):
        client.put(f"CodeSystem/{resource['id']}", json=resource).raise_for_status()


def expanded(client, compose: Json, **asked: Any) -> Json:
    answer = client.post("ValueSet/$expand", json=parameters(valueSet=value_set("x", compose), **asked))
    assert answer.status_code == 200, answer.text[:400]
    found: Json = answer.json()["expansion"]
    return found


def codes(expansion: Json) -> list[str]:
    return [one["code"] for one in expansion.get("contains", ())]


def validated(client, compose: Json, **asked: Any) -> Json:
    return values(client.post("ValueSet/$validate-code", json=parameters(valueSet=value_set("x", compose), **asked)))


# --- versions


def test_the_version_that_is_named_is_the_one_that_answers(client) -> None:
    first = {"include": [{"system": W, "version": "1"}]}
    made = expanded(client, first)
    assert codes(made) == ["k", "only1"] and not any(one.get("inactive") for one in made["contains"])
    assert {one["version"] for one in made["contains"]} == {"1"} and made["contains"][0]["display"] == "K of 1"
    assert {"name": "version", "valueUri": f"{W}|1"} in made["parameter"]
    assert codes(expanded(client, first, activeOnly=True)) == ["k", "only1"]
    told = validated(client, first, code="k", system=W)
    assert told["result"] is True and "message" not in told and told["display"] == "K of 1"
    assert validated(client, first, code="only2", system=W)["result"] is False
    newest = {"include": [{"system": W}]}
    assert codes(expanded(client, newest, activeOnly=True)) == ["only2"]
    assert {"name": "version", "valueUri": f"{W}|2"} in expanded(client, newest)["parameter"]


def test_a_version_that_is_not_here_is_never_another_one(client) -> None:
    ninth = {"include": [{"system": W, "version": "9"}]}
    answer = client.post("ValueSet/$expand", json=parameters(valueSet=value_set("x", ninth)))
    refused(answer, 422, f"{W}|9")
    assert validated(client, ninth, code="only2", system=W)["result"] is False
    named = {"include": [{"system": W, "version": "1", "concept": [{"code": "k"}, {"code": "only2"}]}]}
    assert [(one["code"], one["display"]) for one in expanded(client, named)["contains"]] == [("k", "K of 1")]


def test_the_version_of_a_coding_counts(client) -> None:
    def asked(version: str, code: str) -> bool:
        body = parameters(url=W, coding={"system": W, "version": version, "code": code})
        return bool(values(client.post("CodeSystem/$validate-code", json=body))["result"])

    assert asked("1", "only1") and asked("2", "only2") and not asked("1", "only2") and not asked("9", "k")
    answer = client.get("CodeSystem/$validate-code", params={"url": W, "code": "k", "version": "9"})
    refused(answer, 404, f"{W}|9")


def test_a_supplement_of_a_version_is_for_that_version(client) -> None:
    def told(version: str) -> Json:
        return values(client.get("CodeSystem/$lookup", params={"system": W, "code": "k", "version": version, "displayLanguage": "zh"}))

    assert told("1")["display"] == "一" and told("2")["display"] == "K of 2"


# --- codes that are named


def test_codes_that_the_system_does_not_have_are_not_in_it(client) -> None:
    compose = {"include": [{"system": SYSTEM["url"], "concept": [{"code": "dog"}, {"code": "unicorn", "display": "Unicorn"}]}]}
    assert codes(expanded(client, compose)) == ["dog"]
    assert validated(client, compose, code="unicorn", system=SYSTEM["url"])["result"] is False
    elsewhere = {"include": [{"system": "urn:elsewhere", "concept": [{"code": "x", "display": "X"}]}]}
    assert codes(expanded(client, elsewhere)) == ["x"], "of a system that is not here nobody knows better"


def test_designations_of_the_value_set_are_used(client) -> None:
    spanish = [{"language": "es", "value": "perro"}]
    compose = {"include": [{"system": SYSTEM["url"], "concept": [{"code": "dog", "designation": spanish}]}]}
    assert expanded(client, compose, displayLanguage="es")["contains"][0]["display"] == "perro"
    (row,) = expanded(client, compose, includeDesignations=True)["contains"]
    assert {one["value"] for one in row["designation"]} == {"perro", "狗", "Hund"}
    assert validated(client, compose, code="dog", system=SYSTEM["url"], display="perro")["result"] is True
    assert codes(expanded(client, compose, filter="perr")) == ["dog"]
    chosen = expanded(client, compose, designation="urn:ietf:bcp:47|zh-CN")["contains"]
    assert [one["value"] for one in chosen[0]["designation"]] == ["狗"]
    refused(client.post("ValueSet/$expand", json=parameters(valueSet=value_set("x", compose), designation="zh-CN")), 400, "system|code")


def test_codes_without_a_value_are_passed_over(client) -> None:
    """An extension may say why there is none."""
    why = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
    compose = {"include": [{"system": SYSTEM["url"], "concept": [{"_code": why}, {"code": "dog"}]}]}
    assert codes(expanded(client, compose)) == ["dog"]
    imported = {"include": [{"system": SYSTEM["url"], "valueSet": [None], "_valueSet": [why]}]}
    assert "dog" in codes(expanded(client, imported))
    odd = {
        "resourceType": "CodeSystem", "id": "odd", "url": W + "-odd", "status": "active", "content": "supplement",
        "supplements": SYSTEM["url"],
        "concept": [{"_code": why, "display": "x"}, {"code": "dog", "display": "Wuff"}],
    }  # fmt: skip
    client.put("CodeSystem/odd", json=odd).raise_for_status()
    assert values(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "dog"}))["display"] == "Dog"
    client.delete("CodeSystem/odd").raise_for_status()


# --- what is known in part


@pytest.mark.parametrize("content", ["fragment", "example", "not-present"])
def test_what_is_known_in_part_is_no_silent_yes(client, content: str) -> None:
    part = {
        "resourceType": "CodeSystem", "id": f"part-{content}", "url": f"{W}-{content}", "status": "active", "content": content,
        "concept": [{"code": "1", "display": "One"}] if content != "not-present" else [],
    }  # fmt: skip
    client.put(f"CodeSystem/part-{content}", json={key: value for key, value in part.items() if value}).raise_for_status()
    told = validated(client, {"include": [{"system": part["url"]}]}, code="invented", system=part["url"], display="whatever")
    assert told["result"] is False and "not all of them" in told["message"]
    if content != "not-present":
        assert validated(client, {"include": [{"system": part["url"]}]}, code="1", system=part["url"])["result"] is True


# --- filters


@pytest.mark.parametrize(
    ("property", "op", "value", "words"),
    [
        ("nonsense", "=", "1", "no property 'nonsense'"), ("concept", "is-a", "unicorn", "'unicorn' is no code"),
        ("concept", "is-not-a", "unicorn", "'unicorn' is no code"), ("legs", "is-a", "dog", "asks for a concept"),
        ("legs", "exists", "maybe", "true or false"), ("constraint", "=", "<< 1", "no property 'constraint'"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_answered_is_told(client, property: str, op: str, value: str, words: str) -> None:
    compose = {"include": [{"system": SYSTEM["url"], "filter": [{"property": property, "op": op, "value": value}]}]}
    answer = client.post("ValueSet/$expand", json=parameters(valueSet=value_set("x", compose)))
    refused(answer, 422, words)


def test_properties_that_every_code_has(client) -> None:
    """https://hl7.org/fhir/R4/codesystem-concept-properties.html: inactive and notSelectable are false where nothing is said."""

    def found(property: str, value: str) -> list[str]:
        return codes(
            expanded(client, {"include": [{"system": SYSTEM["url"], "filter": [{"property": property, "op": "=", "value": value}]}]})
        )

    assert found("inactive", "false") == ["animal", "dog", "poodle"] and found("inactive", "true") == ["dodo"]
    assert found("notSelectable", "true") == ["animal"] and "dog" in found("notSelectable", "false")


def test_a_value_set_that_says_nothing_of_its_content_is_told(client) -> None:
    empty = {"resourceType": "ValueSet", "url": "http://example.org/fhir/ValueSet/nothing", "status": "active"}
    refused(client.post("ValueSet/$expand", json=parameters(valueSet=empty)), 422, "neither compose nor expansion")


# --- stored expansions


def test_a_stored_expansion_keeps_what_it_says(client) -> None:
    rows = [
        {"system": "urn:x", "code": "1", "display": "One", "inactive": True, "designation": [{"language": "zh", "value": "一"}]},
        {
            "system": "urn:x",
            "abstract": True,
            "code": "g",
            "display": "Group",
            "contains": [{"system": "urn:x", "version": "3", "code": "2"}],
        },
    ]
    stored = {
        "resourceType": "ValueSet", "url": "http://example.org/fhir/ValueSet/stored", "status": "active",
        "expansion": {"timestamp": "2026-01-01", "contains": rows},
    }  # fmt: skip

    def expansion(**asked: Any) -> list[Json]:
        answer = client.post("ValueSet/$expand", json=parameters(valueSet=stored, **asked))
        assert answer.status_code == 200, answer.text
        found: list[Json] = answer.json()["expansion"]["contains"]
        return found

    one, group, two = expansion(includeDesignations=True)
    assert one["inactive"] is True and one["designation"] == [{"language": "zh", "value": "一"}]
    assert group["abstract"] is True and two["version"] == "3"
    assert [row["code"] for row in expansion(activeOnly=True)] == ["g", "2"]
    assert [row["code"] for row in expansion(excludeNotForUI=True)] == ["1", "2"]
    assert expansion(displayLanguage="zh")[0]["display"] == "一"
