"""Search over HTTP: Bundles, links, paging, includes, presentation. https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html

What each parameter type matches is tested in tests/search and tests/contract.
"""

from __future__ import annotations

import threading

import pytest

from tests.wire.resources import identified, observation, outcome, patient, unique


def link(bundle: dict, relation: str) -> str:
    return next((entry["url"] for entry in bundle["link"] if entry["relation"] == relation), "")


def ids(bundle: dict, mode: str = "match") -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", ()) if entry["search"]["mode"] == mode]


def all_pages(client, place: str, visit=lambda page: None) -> list[dict]:
    pages = []
    while place:
        pages.append(client.get(place).json())
        visit(pages[-1])
        place = link(pages[-1], "next")
    return pages


@pytest.fixture
def ward(client):
    """A patient with 25 heart rates on 25 days, and the organization that manages the patient."""
    organization = client.post("Organization", json={"resourceType": "Organization", "name": "Ward 3"}).json()["id"]
    mrn = unique("ward")
    subject = client.post("Patient", json=identified(mrn, managingOrganization={"reference": f"Organization/{organization}"})).json()["id"]
    beats = [
        client.post("Observation", json=observation(f"Patient/{subject}", effectiveDateTime=f"2025-01-{day:02}T08:00:00Z")).json()["id"]
        for day in range(1, 26)
    ]
    return {"organization": organization, "patient": subject, "mrn": mrn, "observations": beats}


def test_a_searchset_has_full_urls_modes_links_and_total(client, server, ward):
    bundle = client.get(f"Patient?identifier=urn:mrn|{ward['mrn']}").json()
    assert (bundle["resourceType"], bundle["type"], bundle["total"]) == ("Bundle", "searchset", 1)
    (entry,) = bundle["entry"]
    assert entry["fullUrl"] == f"{server.base}/Patient/{ward['patient']}"
    assert entry["search"] == {"mode": "match"}
    assert entry["resource"] == client.get(f"Patient/{ward['patient']}").json()
    assert link(bundle, "self").startswith(f"{server.base}/Patient?identifier=")
    assert link(bundle, "next") == ""


def test_pages_hold_each_match_once_and_keep_their_address(client, server, ward):
    pages = all_pages(client, f"Observation?patient={ward['patient']}&_count=10")
    assert [len(page["entry"]) for page in pages] == [10, 10, 5]
    assert sorted(id for page in pages for id in ids(page)) == sorted(ward["observations"])
    assert link(pages[0], "next").startswith(f"{server.base}/Observation?")


def test_pages_are_stable_while_others_write(client, server, ward):
    """Known failure 12: paging under writes duplicates or loses rows."""
    stop = threading.Event()

    def write() -> None:
        with server.client() as other:
            number = 0
            while not stop.is_set():
                number += 1
                other.post(
                    "Observation",
                    json=observation(f"Patient/{ward['patient']}", effectiveDateTime=f"2025-01-{number % 27 + 1:02}T09:00:00Z"),
                )
                other.put(
                    f"Observation/{ward['observations'][number % 25]}",
                    json=observation(f"Patient/{ward['patient']}", id=ward["observations"][number % 25], note=[{"text": str(number)}]),
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for sort in ("", "&_sort=-date", "&_sort=date", "&_sort=_id"):
            found = [id for page in all_pages(client, f"Observation?patient={ward['patient']}&_count=4{sort}") for id in ids(page)]
            assert len(found) == len(set(found)), sort
            assert set(ward["observations"]) <= set(found), sort
    finally:
        stop.set()
        writer.join()


def test_sort_orders_matches(client, ward):
    found = [id for page in all_pages(client, f"Observation?patient={ward['patient']}&_sort=-date&_count=7") for id in ids(page)]
    assert found == ward["observations"][::-1]


def test_post_search_equals_get(client, server, ward):
    got = client.get(f"Observation?patient={ward['patient']}&_count=3&_sort=date").json()
    form = {"patient": ward["patient"], "_count": "3", "_sort": "date"}
    posted = client.post("Observation/_search", data=form)
    assert posted.status_code == 200
    assert ids(posted.json()) == ids(got)
    mixed = client.post("Observation/_search?_count=3&_sort=date", data={"patient": ward["patient"]}).json()
    assert ids(mixed) == ids(got)
    assert link(posted.json(), "next").startswith(f"{server.base}/Observation?")
    assert client.get("Observation/_search", params=form).status_code == 200


def test_post_search_wants_a_form(client):
    outcome(client.post("Patient/_search", json={"family": "x"}), 415)


def test_unknown_parameters_are_named(client):
    """Known failure 1: a misspelt parameter returns everything."""
    answer = client.get("Patient?famly=Chalmers")
    assert "famly" in outcome(answer, 400)


def test_lenient_handling_ignores_and_says_so(client, ward):
    answer = client.get(f"Patient?famly=x&identifier=urn:mrn|{ward['mrn']}", headers={"Prefer": "handling=lenient"})
    assert answer.status_code == 200
    bundle = answer.json()
    assert ids(bundle) == [ward["patient"]]
    told = [entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "outcome"]
    assert "famly" in str(told)
    assert "famly" not in link(bundle, "self")
    assert bundle["total"] == 1


def test_include_brings_what_matches_refer_to(client, ward):
    bundle = client.get(f"Observation?patient={ward['patient']}&_include=Observation:subject&_count=5").json()
    assert len(ids(bundle)) == 5
    assert ids(bundle, "include") == [ward["patient"]]


def test_include_iterates_only_when_asked(client, ward):
    place = f"Observation?patient={ward['patient']}&_count=2&_include=Observation:subject"
    # Without :iterate it could never find anything: what is searched for is Observations.
    assert "Patient:organization" in outcome(client.get(place + "&_include=Patient:organization"), 400)
    bundle = client.get(place + "&_include:iterate=Patient:organization").json()
    assert sorted(ids(bundle, "include")) == sorted([ward["patient"], ward["organization"]])


def test_include_can_be_limited_to_a_target_type(client, ward):
    place = f"Observation?patient={ward['patient']}&_count=2&_include=Observation:subject:"
    assert ids(client.get(place + "Patient").json(), "include") == [ward["patient"]]
    assert ids(client.get(place + "Group").json(), "include") == []


def test_include_star(client, ward):
    bundle = client.get(f"Observation?patient={ward['patient']}&_count=2&_include=*").json()
    assert ids(bundle, "include") == [ward["patient"]]


def test_revinclude_brings_what_refers_to_matches(client, ward):
    place = f"Patient?identifier=urn:mrn|{ward['mrn']}&_revinclude="
    bundle = client.get(place + "Observation:subject").json()
    assert bundle["total"] == 1
    assert ids(bundle) == [ward["patient"]]
    assert sorted(ids(bundle, "include")) == sorted(ward["observations"])
    assert sorted(ids(client.get(place + "Observation:patient").json(), "include")) == sorted(ward["observations"])


def test_revinclude_star_answers(client, ward):
    """Known failure 6: _revinclude=* ends with 500."""
    answer = client.get(f"Organization?_id={ward['organization']}&_revinclude=*")
    assert answer.status_code == 200
    assert ids(answer.json(), "include") == [ward["patient"]]


def test_what_matches_is_not_included_again(client, ward):
    other = client.post(
        "Observation", json=observation(f"Patient/{ward['patient']}", hasMember=[{"reference": f"Observation/{ward['observations'][0]}"}])
    ).json()
    bundle = client.get(f"Observation?_id={other['id']},{ward['observations'][0]}&_include=Observation:has-member").json()
    assert sorted(ids(bundle)) == sorted([other["id"], ward["observations"][0]])
    assert ids(bundle, "include") == []


@pytest.mark.parametrize("value", ["Observation:nothing", "Nothing:subject", "Observation:code", "subject", "Observation:subject:Nothing"])
@pytest.mark.parametrize("name", ["_include", "_revinclude"])
def test_unknown_includes_are_refused(client, name, value):
    outcome(client.get("Observation", params={name: value}), 400)


def test_summary_count_gives_the_total_alone(client, ward):
    for query in ("_summary=count", "_count=0"):
        bundle = client.get(f"Observation?patient={ward['patient']}&{query}").json()
        assert bundle["total"] == 25
        assert "entry" not in bundle


def test_the_count_of_fhirpy_is_understood(client, ward):
    """Its `count()` sends a parameter of another product, `_totalMethod=count`."""
    assert client.get(f"Observation?patient={ward['patient']}&_count=0&_totalMethod=count").json()["total"] == 25
    outcome(client.get("Observation?_totalMethod=guess"), 400)


def test_total_is_exact_when_asked(client, ward):
    bundle = client.get(f"Observation?patient={ward['patient']}&date=ge2025-01-11&_total=accurate&_count=2").json()
    assert bundle["total"] == 15


def test_an_estimated_total_is_exact_for_short_lists(client, ward):
    query = f"Observation?patient={ward['patient']}&date=ge2025-01-03&_count=5"
    assert "total" not in client.get(query).json()
    assert client.get(f"{query}&_total=estimate").json()["total"] == 23


@pytest.mark.parametrize("query", ["_count=-1", "_count=ten", "_total=some", "_summary=some", "_sort=nothing", "_cursor=forged", "_sort=-"])
def test_wrong_values_are_refused(client, query):
    outcome(client.get(f"Patient?{query}"), 400)


def test_a_changed_cursor_is_refused(client, ward):
    following = link(client.get(f"Observation?patient={ward['patient']}&_count=2").json(), "next")
    outcome(client.get(following[:-3] + "xyz"), 400)
    # The cursor of one search is none of another.
    outcome(client.get(following.replace(ward["patient"], "other")), 400)


def test_a_large_count_is_cut_and_self_says_so(client):
    assert "_count=1000" in link(client.get("Patient?_count=100000").json(), "self")


def test_elements_and_summary_shorten_matches(client, ward):
    bundle = client.get(f"Observation?patient={ward['patient']}&_elements=subject&_count=1").json()
    assert set(bundle["entry"][0]["resource"]) == {"resourceType", "id", "meta", "status", "code", "subject"}
    bundle = client.get(f"Patient?identifier=urn:mrn|{ward['mrn']}&_summary=text").json()
    assert "name" not in bundle["entry"][0]["resource"]
    outcome(client.get("Observation?_summary=text&_include=Observation:subject"), 400)


def test_compartment_search_gives_what_belongs_to_the_patient(client, ward):
    bundle = client.get(f"Patient/{ward['patient']}/Observation?_count=100").json()
    assert sorted(ids(bundle)) == sorted(ward["observations"])
    filtered = client.get(f"Patient/{ward['patient']}/Observation?date=2025-01-05").json()
    assert ids(filtered) == [ward["observations"][4]]
    assert client.get(f"Patient/{ward['patient']}/Condition").json()["total"] == 0


def test_compartment_search_over_all_types(client, ward):
    bundle = client.get(f"Patient/{ward['patient']}/*?_count=100").json()
    assert sorted(ids(bundle)) == sorted([*ward["observations"], ward["patient"]])


def test_a_type_outside_of_the_compartment_is_refused(client, ward):
    """Known failure 14: a compartment search returns other types unfiltered."""
    for place in (f"Patient/{ward['patient']}/Organization", f"Organization/{ward['organization']}/Patient"):
        answer = client.get(place)
        assert 400 <= answer.status_code < 500
        outcome(answer, answer.status_code)


def test_system_search_needs_types_and_pages_through_them(client, ward):
    pages = all_pages(client, f"?_type=Patient,Organization&_id={ward['patient']},{ward['organization']}&_count=1")
    assert sorted(id for page in pages for id in ids(page)) == sorted([ward["patient"], ward["organization"]])
    assert client.post("_search", data={"_type": "Patient", "_id": ward["patient"]}).json()["total"] == 1


def test_read_your_writes(client):
    for _ in range(20):
        mrn = unique("ryw")
        id = client.post("Patient", json=identified(mrn)).json()["id"]
        assert ids(client.get(f"Patient?identifier=urn:mrn|{mrn}").json()) == [id]


def test_injection_is_a_literal(client):
    client.post("Patient", json=patient(name=[{"family": "O'Neil; DROP TABLE"}]))
    for value in ("' OR 1=1 --", "%", "_", "{$ne:1}", "$where", ".*", "O'Neil; DROP"):
        bundle = client.get("Patient", params={"family:exact": value}).json()
        assert bundle.get("total", 0) == 0 or bundle["entry"] == []
    assert client.get("Patient", params={"family": "O'Neil; DROP"}).json()["total"] == 1


def test_a_later_page_is_itself_and_leads_back_to_the_first(client, server, ward):
    """`self` is the address of what is shown; `first` begins the list again."""
    place = f"Observation?patient={ward['patient']}&_count=10&_sort=date"
    first = client.get(place).json()
    second = client.get(link(first, "next")).json()
    assert client.get(link(second, "self")).json()["entry"] == second["entry"]
    assert link(second, "first") == link(first, "self") == f"{server.base}/{place}"
    assert ids(client.get(link(second, "first")).json()) == ids(first)


def test_several_types_take_a_parameter_that_all_of_them_have(client, ward):
    """https://hl7.org/fhir/R4/http.html#search: a search over several types has the parameters that they share."""
    organization = f"Organization/{ward['organization']}"
    assert ids(client.get(f"?_type=Patient,Practitioner&gender=male&_id={ward['patient']}").json()) == [ward["patient"]]
    found = client.get(f"?_type=Patient,Device,Location&organization={organization}").json()
    assert (ids(found), found["total"]) == ([ward["patient"]], 1)
    assert client.get(f"?_type=Observation,Condition&patient={ward['patient']}&_summary=count").json()["total"] == 25
    assert client.get(f"?_type=Observation,Condition&patient.identifier=urn:mrn|{ward['mrn']}&_summary=count").json()["total"] == 25
    refused = client.get(f"?_type=Patient,Organization&gender=male&_id={ward['patient']}")
    assert "'gender' is not known for Organization" in outcome(refused, 400)


def test_a_negation_over_several_types_is_about_each_of_them(client, ward):
    places = f"{ward['patient']},{ward['observations'][0]}"
    found = client.get(f"?_type=Patient,Observation&identifier:not=urn:mrn|{ward['mrn']}&_id={places}").json()
    assert ids(found) == [ward["observations"][0]]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_a_head_entry_of_a_bundle_has_no_content(client, ward, kind):
    entry = {"request": {"method": "HEAD", "url": f"Observation?patient={ward['patient']}"}}
    answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": [entry]}).json()["entry"][0]
    assert answer["response"]["status"].startswith("200")
    assert "resource" not in answer


def test_includes_end_with_the_time_of_the_search(start):
    """Each of the many searches that an include may need is short: it is the sum that is limited."""
    server = start(env={"FHIR_SERVER_SEARCH_SECONDS": "0.000001"})
    with server.client() as client:
        subject = client.post("Patient", json=patient()).json()["id"]
        client.post("Observation", json=observation(f"Patient/{subject}"))
        assert ids(client.get(f"Patient?_id={subject}").json()) == [subject]
        for include in ("_revinclude=*", "_revinclude=Observation:subject", "_include=Patient:*"):
            answer = client.get(f"Patient?_id={subject}&{include}")
            assert "_count" in outcome(answer, 503, "too-costly")
            assert answer.headers["retry-after"]
