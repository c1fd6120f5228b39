"""`FHIR_SERVER_VALIDATION=profiles`: writes are refused by R4's invariants and by the profiles that the site enforces."""

from __future__ import annotations

import pytest

from tests.validation.profiled import OWN, profile

ONE, TWO = (profile(name, "Patient", {"path": path, "min": 1}) for name, path in (("one", "birthDate"), ("two", "gender")))
PATIENT = {"resourceType": "Patient"}


@pytest.fixture
def serve(start):
    def run(**settings: str):
        server = start(env={f"FHIR_SERVER_{name.upper()}": value for name, value in settings.items()})
        client = server.client()
        for definition in (ONE, TWO):
            assert client.post("StructureDefinition", json=definition).status_code == 201
        return client

    return run


def declared(*names, **more):
    return PATIENT | {"meta": {"profile": [OWN + name for name in names]}} | more


def rules(answer):
    return [issue["details"]["coding"][0]["code"] for issue in answer.json()["issue"]] if answer.status_code == 422 else answer.status_code


def test_every_way_to_write_is_refused_by_what_a_resource_declares(serve) -> None:
    client = serve(validation="profiles")
    bad, good = declared("one"), declared("one", birthDate="2000")
    assert rules(client.post("Patient", json=bad)) == ["cardinality"]
    assert rules(client.put("Patient/a", json=bad | {"id": "a"})) == ["cardinality"]
    assert client.put("Patient/a", json=good | {"id": "a"}).status_code == 201
    patch = [{"op": "remove", "path": "/birthDate"}]
    assert rules(client.patch("Patient/a", json=patch, headers={"Content-Type": "application/json-patch+json"})) == ["cardinality"]
    entry = {"resource": bad, "request": {"method": "POST", "url": "Patient"}}
    assert client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status_code == 422
    batch = client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": [entry]}).json()
    assert batch["entry"][0]["response"]["status"].startswith("422")
    assert client.get("Patient", params={"_summary": "count"}).json()["total"] == 1


def test_invariants_of_r4_refuse_too_and_unknown_profiles_do_not(serve) -> None:
    client = serve(validation="profiles")
    assert rules(client.post("Patient", json=PATIENT | {"contact": [{"gender": "male"}]})) == ["pat-1"]
    assert client.post("Patient", json=PATIENT | {"meta": {"profile": ["http://elsewhere.org/p"]}}).status_code == 201


def test_without_the_setting_profiles_refuse_nothing(serve) -> None:
    assert serve().post("Patient", json=declared("one")).status_code == 201


def test_a_site_names_the_profiles_that_refuse(serve) -> None:
    client = serve(validation="profiles", validation_enforce=OWN + "two")
    assert client.post("Patient", json=declared("one")).status_code == 201
    assert rules(client.post("Patient", json=declared("two"))) == ["cardinality"]


def test_a_site_names_profiles_that_all_must_meet(serve) -> None:
    client = serve(validation="profiles", validation_require=OWN + "one")
    assert rules(client.post("Patient", json=PATIENT)) == ["cardinality"]
    assert client.post("Patient", json=PATIENT | {"birthDate": "2000"}).status_code == 201


def test_a_site_refuses_extensions_that_nobody_defines(serve) -> None:
    client = serve(validation="profiles", unknown_extensions="refuse")
    assert rules(client.post("Patient", json=PATIENT | {"extension": [{"url": "http://x.org/e", "valueString": "y"}]})) == [
        "extension-unknown"
    ]


def test_a_site_refuses_texts_like_html_and_addresses_of_examples(start) -> None:
    text = PATIENT | {"name": [{"text": "<script>alert(1)</script>"}, {"text": "a < b and c > d"}]}
    address = PATIENT | {"link": [{"type": "seealso", "other": {"display": "x"}}], "photo": [{"url": "https://files.example.org/1"}]}
    own = PATIENT | {"photo": [{"url": "https://example.org.cn/1"}]}
    profiles = {"FHIR_SERVER_VALIDATION": "profiles"}
    both = {"FHIR_SERVER_MARKUP_IN_TEXTS": "refuse", "FHIR_SERVER_EXAMPLE_ADDRESSES": "refuse"}
    client, usual = start(env=profiles | both).client(), start(env=profiles).client()
    assert rules(client.post("Patient", json=text)) == ["markup"]
    assert rules(client.post("Patient", json=address)) == ["example-address"]
    assert client.post("Patient", json=own).status_code == 201
    assert [usual.post("Patient", json=one).status_code for one in (text, address, own)] == [201, 201, 201]


def test_the_capability_statement_lists_the_profiles(serve) -> None:
    client = serve()
    resources = {one["type"]: one for one in client.get("metadata").json()["rest"][0]["resource"]}
    assert resources["Patient"]["supportedProfile"] == [OWN + "one", OWN + "two"]
    assert "supportedProfile" not in resources["Observation"]
    first = client.get("metadata").headers["etag"]
    client.post("StructureDefinition", json=profile("three", "Patient"))
    assert client.get("metadata", headers={"If-None-Match": first}).status_code == 200


def test_refusals_of_bundles_name_rule_profile_and_entry(serve) -> None:
    client = serve(validation="profiles")
    entry = {"resource": declared("one"), "request": {"method": "POST", "url": "Patient"}}
    for kind in ("transaction", "batch"):
        answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": [entry]}, headers={"Accept-Language": "zh"}).json()
        outcome = answer if kind == "transaction" else answer["entry"][0]["response"]["outcome"]
        (issue,) = outcome["issue"]
        assert issue["details"]["coding"][0]["code"] == "cardinality"
        assert issue["extension"][0]["valueString"].startswith(OWN + "one")
        assert issue["expression"] == (["Bundle.entry[0].resource.birthDate"] if kind == "transaction" else issue["expression"])
        assert "Bundle.entry[0]" in issue["details"]["text"] or kind == "batch"


def test_settings_that_name_unknown_profiles_are_told(start) -> None:
    server = start(env={"FHIR_SERVER_VALIDATION": "profiles", "FHIR_SERVER_VALIDATION_REQUIRE": "http://x.org/unknown"})
    assert server.client().post("Patient", json=PATIENT).status_code == 201
    assert any("http://x.org/unknown" in line for line in server.log)
