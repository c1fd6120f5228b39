"""List navigation and the flattening directives of $graphql, after the examples of FHIR's page.

https://hl7.org/fhir/R4/graphql.html#list, #flattening
"""

from __future__ import annotations

import pytest

from tests.operations.graphql_asking import ask, refused

CHALMERS = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:oid:1.2.36.146.595.217.0.1", "value": "12345"}],
    "active": True,
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", "James"]},
    ],
    "telecom": [
        {"system": "phone", "value": "(03) 5555 6473", "use": "work", "rank": 1},
        {"system": "phone", "value": "(03) 3410 5613", "use": "mobile", "rank": 2},
    ],
    "contact": [{"name": {"family": "du Marché"}, "telecom": [{"value": "+33 (237) 998327"}]}],
}
"""The Patient of the page's examples."""


@pytest.fixture(scope="module")
def place(server) -> str:
    with server.client() as http:
        return "Patient/" + http.post("Patient", json=CHALMERS).json()["id"]


# --- list navigation


@pytest.mark.parametrize(
    ("arguments", "families"),
    [
        ("use: official", ["Chalmers"]),
        ('use: "maiden"', ["Windsor"]),
        ("given: Peter", ["Chalmers", "Windsor"]),
        ("given: Jim", [None]),
        ("given: Peter, use: maiden", ["Windsor"]),
        ('fhirpath: "family.exists()"', ["Chalmers", "Windsor"]),
        ("fhirpath: \"family = 'Windsor' or use = 'usual'\"", [None, "Windsor"]),
        ('fhirpath: "$index = 0"', ["Chalmers"]),
        ('fhirpath: "$index > 0"', [None, "Windsor"]),
        ('fhirpath: "given.count() > 1", _offset: 1', ["Windsor"]),
        ("_offset: 1, _count: 1", [None]),
        ("_offset: 3", []),
        ("_count: 0", []),
    ],
)
def test_arguments_choose_among_the_values_of_a_list(client, place, arguments, families):
    shown = ask(client, place, f"{{ name({arguments}) {{ use family }} }}").get("name", [])
    assert [one.get("family") for one in shown] == families


def test_filters_compare_numbers_and_booleans_too(client, place):
    assert ask(client, place, "{ telecom(rank: 2) { use } }") == {"telecom": [{"use": "mobile"}]}
    made = client.post("Patient", json={"resourceType": "Patient", "communication": [
        {"language": {"text": "zh"}, "preferred": True}, {"language": {"text": "en"}, "preferred": False}]}).json()["id"]  # fmt: skip
    query = "query ($p: Boolean) { communication(preferred: $p) { language { text } } }"
    assert ask(client, f"Patient/{made}", query, variables={"p": True}) == {"communication": [{"language": {"text": "zh"}}]}


def test_aliases_name_the_result_of_filters(client, place):
    query = "{ work: telecom(use: work) { value } mobile: telecom(use: mobile) { number: value } }"
    assert ask(client, place, query) == {"work": [{"value": "(03) 5555 6473"}], "mobile": [{"number": "(03) 3410 5613"}]}


def test_a_path_that_cannot_be_evaluated_is_an_error(client, place):
    assert "given" in refused(client, place, "{ name(fhirpath: \"given.single() = 'Jim'\") { family } }")


# --- flattening


def test_flatten_makes_lists_of_the_children(client, place):
    assert ask(client, place, "{ identifier @flatten { system value } active name @flatten { text given family } }") == {
        "system": ["urn:oid:1.2.36.146.595.217.0.1"],
        "value": ["12345"],
        "active": True,
        "given": ["Peter", "James", "Jim", "Peter", "James"],
        "family": ["Chalmers", "Windsor"],
    }


def test_first_takes_the_first_in_the_source(client, place):
    assert ask(client, place, "{ name @flatten { given @first family } }") == {
        "given": ["Peter", "Jim", "Peter"],
        "family": ["Chalmers", "Windsor"],
    }


def test_first_chooses_but_leaves_a_list_a_list(client, place):
    """`@first` is a shortcut for the filter [$index = 0]; the cardinality of the output is @singleton's."""
    assert ask(client, place, "{ name @first { family given @first } }") == {"name": [{"family": "Chalmers", "given": ["Peter"]}]}


def test_singleton_makes_one_value(client, place):
    query = "{ identifier @flatten { system @singleton value @singleton } active name @flatten @first { text given family @singleton } }"
    assert ask(client, place, query) == {
        "system": "urn:oid:1.2.36.146.595.217.0.1",
        "value": "12345",
        "active": True,
        "given": ["Peter", "James"],
        "family": "Chalmers",
    }


def test_singleton_with_several_values_is_an_error_even_if_they_are_the_same(client, place):
    assert "family" in refused(client, place, "{ name @flatten { family @singleton } }")
    assert "system" in refused(client, place, "{ telecom @flatten { system @singleton } }")


@pytest.mark.parametrize(
    ("path", "suffixes"),
    [("use", ["official", "usual", "maiden"]), ("$index", ["0", "1", "2"]), ("family.exists()", None)],
)
def test_slice_appends_the_result_of_a_path(client, place, path, suffixes):
    query = f'{{ name @flatten @slice(path: "{path}") {{ given }} }}'
    shown = ask(client, place, query)
    if suffixes is None:
        assert shown == {"given.true": ["Peter", "James", "Peter", "James"], "given.false": ["Jim"]}
    else:
        assert shown == dict(zip([f"given.{one}" for one in suffixes], [["Peter", "James"], ["Jim"], ["Peter", "James"]], strict=True))


def test_slices_are_lists_unless_singleton_is_asked_for(client, place):
    """'servers SHALL NOT treat the outputs as singletons unless this is explicitly specified using @singleton'."""
    query = '{ name @slice(path: "$index") @flatten { given @first @singleton family } }'
    assert ask(client, place, query) == {
        "given.0": "Peter",
        "family.0": ["Chalmers"],
        "given.1": "Jim",
        "given.2": "Peter",
        "family.2": ["Windsor"],
    }
    assert ask(client, place, '{ telecom @slice(path: "use") { value } }') == {
        "telecom.work": [{"value": "(03) 5555 6473"}],
        "telecom.mobile": [{"value": "(03) 3410 5613"}],
    }


def test_suffixes_add_up_when_slices_nest(client, place):
    query = '{ name(use: official) @flatten @slice(path: "use") { given @slice(path: "$index") @singleton } }'
    assert ask(client, place, query) == {"given.official.0": "Peter", "given.official.1": "James"}


def test_flattened_values_of_different_types_cannot_be_collated(client, place):
    """'all the collated children must have the same FHIR type. The server SHALL return an error if they don't'."""
    message = refused(client, place, "{ name @flatten { value: family } telecom @flatten { value: use } }")
    assert "value" in message
    assert "string" in message
    assert "code" in message


def test_flattening_goes_through_several_levels(client, place):
    query = "{ contact @flatten { name @flatten { family } telecom @flatten { value } } }"
    assert ask(client, place, query) == {"family": ["du Marché"], "value": ["+33 (237) 998327"]}


def test_lists_of_resources_can_be_flattened(client, place):
    id = place.split("/")[1]
    assert ask(client, "", f'{{ PatientList(_id: "{id}") @flatten {{ active identifier @flatten {{ value }} }} }}') == {
        "active": [True],
        "value": ["12345"],
    }
    assert ask(client, "", f'{{ Patient(id: "{id}") @flatten {{ active }} }}') == {"active": True}
