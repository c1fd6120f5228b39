"""The terminology operations over the wire, on R4's own systems and on what a site stores.

Specification: https://hl7.org/fhir/R4/terminology-service.html, the operations of CodeSystem, ValueSet and ConceptMap
"""

from __future__ import annotations

import pytest

GENDER = "http://hl7.org/fhir/administrative-gender"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
OWN = "http://example.org/fhir/"
SYSTEM = {
    "resourceType": "CodeSystem", "id": "animals", "url": OWN + "CodeSystem/animals", "version": "1", "name": "Animals", "status": "active",
    "content": "complete", "caseSensitive": True, "language": "en", "hierarchyMeaning": "is-a",
    "property": [
        {"code": "legs", "type": "integer"}, {"code": "status", "type": "code"}, {"code": "notSelectable", "type": "boolean"},
        {"code": "wild", "type": "boolean"},
    ],
    "concept": [
        {
            "code": "animal", "display": "Animal", "property": [{"code": "notSelectable", "valueBoolean": True}],
            "concept": [
                {
                    "code": "dog", "display": "Dog", "definition": "Barks.",
                    "designation": [{"language": "zh-CN", "value": "狗"}, {"language": "de", "value": "Hund"}],
                    "property": [{"code": "legs", "valueInteger": 4}, {"code": "wild", "valueBoolean": False}],
                    "concept": [{"code": "poodle", "display": "Poodle"}],
                },
                {
                    "code": "dodo", "display": "Dodo",
                    "property": [{"code": "status", "valueCode": "retired"}, {"code": "legs", "valueInteger": 2}],
                },
            ],
        }
    ],
}  # fmt: skip
SUPPLEMENT = {
    "resourceType": "CodeSystem", "id": "animals-zh", "url": OWN + "CodeSystem/animals-zh", "version": "1", "name": "AnimalsZh",
    "status": "active", "content": "supplement", "supplements": SYSTEM["url"], "language": "zh",
    "concept": [{"code": "poodle", "display": "贵宾犬"}],
}  # fmt: skip


def value_set(name, compose):
    return {"resourceType": "ValueSet", "id": name, "url": f"{OWN}ValueSet/{name}", "name": name, "status": "active", "compose": compose}


DOGS = value_set("dogs", {"include": [{"system": SYSTEM["url"], "filter": [{"property": "concept", "op": "is-a", "value": "dog"}]}]})
ALL = value_set("all", {"include": [{"system": SYSTEM["url"]}]})
FEW = value_set("few", {"include": [{"valueSet": [ALL["url"]]}], "exclude": [{"system": SYSTEM["url"], "concept": [{"code": "dodo"}]}]})
LEGS = value_set("legs", {"include": [{"system": SYSTEM["url"], "filter": [{"property": "legs", "op": "=", "value": "4"}]}]})
LOINC = value_set("loinc", {"include": [{"system": "http://loinc.org"}]})
MAP = {
    "resourceType": "ConceptMap", "id": "m", "url": OWN + "ConceptMap/m", "status": "active", "name": "M",
    "sourceUri": ALL["url"], "targetUri": OWN + "ValueSet/other",
    "group": [
        {
            "source": SYSTEM["url"], "target": "urn:other",
            "element": [
                {"code": "dog", "target": [{"code": "D", "display": "Canine", "equivalence": "wider"}]},
                {"code": "dodo", "target": [{"equivalence": "unmatched"}]},
            ],
            "unmapped": {"mode": "fixed", "code": "X"},
        }
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _stored(client):
    for one in (SYSTEM, SUPPLEMENT, DOGS, ALL, FEW, LEGS, LOINC, MAP):
        assert client.put(f"{one['resourceType']}/{one['id']}", json=one).status_code in (200, 201)


def values(answer, status=200):
    """name -> value (of several the list) of a Parameters resource; parts as dicts."""
    assert answer.status_code == status, answer.text[:400]
    found = {}
    for row in answer.json()["parameter"]:
        value = next((value for key, value in row.items() if key.startswith("value")), None)
        if "part" in row:
            value = {part["name"]: next(inner for key, inner in part.items() if key != "name") for part in row["part"]}
        found.setdefault(row["name"], []).append(value)
    return {name: rows[0] if len(rows) == 1 else rows for name, rows in found.items()}


def refused(answer, status, *parts):
    assert answer.status_code == status, answer.text[:400]
    assert all(part in answer.text for part in parts), answer.text[:400]


def parameters(**given):
    keys = {dict: "valueCoding", bool: "valueBoolean", str: "valueString"}
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": name, "resource": value} if isinstance(value, dict) and "resourceType" in value
            else {"name": name, "valueCodeableConcept": value} if name == "codeableConcept"
            else {"name": name, keys[type(value)]: value}
            for name, value in given.items()
        ],
    }  # fmt: skip


# --- $lookup


def test_lookup_tells_name_display_designations_and_properties(client) -> None:
    told = values(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "dog"}))
    assert (told["name"], told["version"], told["display"]) == ("Animals", "1", "Dog")
    assert {one["value"] for one in told["designation"]} == {"狗", "Hund"}
    properties = {(one["code"], one["value"]) for one in told["property"]}
    assert {
        ("legs", 4),
        ("wild", False),
        ("parent", "animal"),
        ("child", "poodle"),
        ("definition", "Barks."),
        ("inactive", False),
    } <= properties


def test_lookup_tells_numbers_with_all_digits(client) -> None:
    """https://hl7.org/fhir/R4/datatypes.html#decimal"""
    numbers = ("1.500", "2", "0.10", "123456789012345678901234567890.0")
    concepts = ", ".join(
        f'{{"code": "c{at}", "property": [{{"code": "ratio", "valueDecimal": {text}}}]}}' for at, text in enumerate(numbers)
    )
    url = OWN + "CodeSystem/numbers"
    body = (
        f'{{"resourceType": "CodeSystem", "id": "numbers", "url": "{url}", "status": "active", "content": "complete", '
        f'"property": [{{"code": "ratio", "type": "decimal"}}], "concept": [{concepts}]}}'
    )
    assert client.put("CodeSystem/numbers", content=body, headers={"Content-Type": "application/fhir+json"}).status_code in (200, 201)
    for at, text in enumerate(numbers):
        for place in ("CodeSystem/$lookup", "CodeSystem/numbers/$lookup"):
            answer = client.get(place, params={"system": url, "code": f"c{at}"})
            assert f'"valueDecimal":{text}}}' in answer.text, answer.text


def test_lookup_in_another_language_and_of_some_properties(client) -> None:
    told = values(
        client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "dog", "displayLanguage": "zh", "property": "legs"})
    )
    assert told["display"] == "狗" and told["property"] == {"code": "legs", "value": 4} and "designation" not in told
    header = client.get(
        "CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "dog"}, headers={"Accept-Language": "de-CH, zh;q=0.5"}
    )
    assert values(header)["display"] == "Hund"


def test_lookup_of_a_coding_and_by_instance(client) -> None:
    coding = {"system": SYSTEM["url"], "code": "poodle"}
    assert values(client.post("CodeSystem/$lookup", json=parameters(coding=coding)))["display"] == "Poodle"
    assert values(client.get("CodeSystem/animals/$lookup", params={"code": "poodle"}))["display"] == "Poodle"


def test_a_supplement_adds_texts(client) -> None:
    told = values(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "poodle", "displayLanguage": "zh-CN"}))
    assert told["display"] == "贵宾犬"


def test_lookup_of_what_is_not_here(client) -> None:
    refused(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "cat"}), 404, "cat", SYSTEM["url"])
    refused(client.get("CodeSystem/$lookup", params={"system": "http://nowhere.org", "code": "x"}), 404, "http://nowhere.org")
    refused(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"]}), 400, "code")
    refused(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "dog", "colour": "x"}), 400, "colour")


UCUM = "http://unitsofmeasure.org"


@pytest.mark.parametrize(("unit", "result"), [("mmol/L", True), ("mm[Hg]", True), ("{score}", True), ("mmHg", False), ("kilo", False)])
def test_ucum_is_a_code_system_whose_codes_are_read(client, unit, result) -> None:
    asked = {"url": UCUM, "code": unit}
    assert values(client.get("CodeSystem/$validate-code", params=asked))["result"] is result
    anything = value_set("units", {"include": [{"system": UCUM}]})
    body = parameters(valueSet=anything, coding={"system": UCUM, "code": unit})
    assert values(client.post("ValueSet/$validate-code", json=body))["result"] is result


def test_lookup_of_a_unit_tells_its_base_units(client) -> None:
    told = values(client.get("CodeSystem/$lookup", params={"system": UCUM, "code": "N"}))
    assert (told["name"], told["version"], told["display"]) == ("UCUM", "2.2", "N")
    (canonical,) = [one["value"] for one in told["property"] if one["code"] == "canonical"]
    assert sorted(canonical.split(".")) == ["g", "m", "s-2"]
    refused(client.get("CodeSystem/$lookup", params={"system": UCUM, "code": "mmHg"}), 404, "mmHg")


@pytest.mark.parametrize(
    ("value_set_url", "unit", "result"),
    [
        ("all-time-units", "min", True), ("all-time-units", "wk", True), ("all-time-units", "mm", False),
        ("all-time-units", "minute", False), ("all-distance-units", "km", True), ("all-distance-units", "[ft_i]", True),
        ("all-distance-units", "h", False),
    ],
)  # fmt: skip
def test_units_of_one_kind(client, value_set_url, unit, result) -> None:
    """Source: R4, http://hl7.org/fhir/ValueSet/all-time-units (canonical = a) and all-distance-units (canonical = m)."""
    asked = {"url": f"http://hl7.org/fhir/ValueSet/{value_set_url}", "system": UCUM, "code": unit}
    assert values(client.get("ValueSet/$validate-code", params=asked))["result"] is result


def test_conditions_on_units_join_meet_and_exclude_each_other(client) -> None:
    def of(base):
        return {"system": UCUM, "filter": [{"property": "canonical", "op": "=", "value": base}]}

    either, rest = {"include": [of("s"), of("m")]}, {"include": [{"system": UCUM}], "exclude": [of("s")]}
    both = {"include": [of("s")], "exclude": [{"system": UCUM, "concept": [{"code": "h"}]}]}
    cases = [
        (either, "min", True), (either, "km", True), (either, "kg", False), (rest, "kg", True), (rest, "min", False), (rest, "kilo", False),
        (both, "min", True), (both, "h", False), (both, "kg", False),
    ]  # fmt: skip
    for compose, unit, result in cases:
        body = parameters(valueSet=value_set("units", compose), coding={"system": UCUM, "code": unit})
        assert values(client.post("ValueSet/$validate-code", json=body))["result"] is result, (compose, unit)


def test_all_units_cannot_be_listed(client) -> None:
    for include in ({"system": UCUM}, {"system": UCUM, "filter": [{"property": "canonical", "op": "=", "value": "m"}]}):
        refused(
            client.post("ValueSet/$expand", json=parameters(valueSet=value_set("units", {"include": [include]}))),
            422,
            UCUM,
        )


# --- $validate-code


@pytest.mark.parametrize(
    ("asked", "result", "part"),
    [
        ({"code": "male"}, True, ""),
        ({"code": "male", "display": "Male"}, True, ""),
        ({"code": "male", "display": "male"}, True, ""),
        ({"code": "male", "display": "Mann"}, False, "'Mann'"),
        ({"code": "purple"}, False, "'purple'"),
    ],
)
def test_validate_code_of_a_system(client, asked, result, part) -> None:
    told = values(client.get("CodeSystem/$validate-code", params={"url": GENDER, **asked}))
    assert told["result"] is result and part in told.get("message", "")


def test_validate_code_accepts_any_of_its_texts(client) -> None:
    for text in ("Dog", "狗", "Hund"):
        assert (
            values(client.get("CodeSystem/$validate-code", params={"url": SYSTEM["url"], "code": "dog", "display": text}))["result"] is True
        )


def test_validate_code_of_a_value_set(client) -> None:
    ask = lambda **more: values(client.get("ValueSet/$validate-code", params={"url": GENDERS, **more}))  # noqa: E731
    assert ask(system=GENDER, code="male") == {"result": True, "display": "Male"}
    assert ask(code="male")["result"] is True
    told = ask(system=GENDER, code="purple")
    assert told["result"] is False and "purple" in told["message"] and GENDERS in told["message"]
    assert ask(system="http://nowhere.org", code="male")["result"] is False


def test_validate_code_of_codings_concepts_and_sets_that_come_along(client) -> None:
    dog = {"system": SYSTEM["url"], "code": "dog"}
    own = value_set("x", {"include": [{"system": SYSTEM["url"], "concept": [{"code": "dog"}]}]})
    assert values(client.post("ValueSet/$validate-code", json=parameters(valueSet=own, coding=dog)))["result"] is True
    concept = {"coding": [{"system": "urn:x", "code": "y"}, dog]}
    assert values(client.post("ValueSet/$validate-code", json=parameters(valueSet=own, codeableConcept=concept)))["result"] is True
    assert values(client.get("ValueSet/dogs/$validate-code", params={"system": SYSTEM["url"], "code": "dodo"}))["result"] is False


def test_a_code_that_is_not_used_any_more_is_valid_and_told(client) -> None:
    told = values(client.get("CodeSystem/$validate-code", params={"url": SYSTEM["url"], "code": "dodo"}))
    assert told["result"] is True and "not used" in told["message"]


def test_validate_code_of_what_is_not_here(client) -> None:
    refused(client.get("ValueSet/$validate-code", params={"url": "http://nowhere.org/vs", "code": "x"}), 404, "http://nowhere.org/vs")
    refused(client.get("ValueSet/$validate-code", params={"url": GENDERS}), 400, "code")
    refused(client.get("CodeSystem/$validate-code", params={"code": "x"}), 400, "url")


# --- $subsumes


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [("animal", "dog", "subsumes"), ("poodle", "animal", "subsumed-by"), ("dog", "dog", "equivalent"), ("dog", "dodo", "not-subsumed")],
)
def test_subsumes(client, a, b, outcome) -> None:
    told = values(client.get("CodeSystem/$subsumes", params={"system": SYSTEM["url"], "codeA": a, "codeB": b}))
    assert told == {"outcome": outcome}
    codings = {f"coding{letter}": {"system": SYSTEM["url"], "code": code} for letter, code in (("A", a), ("B", b))}
    assert values(client.post("CodeSystem/$subsumes", json=parameters(**codings))) == {"outcome": outcome}
    assert values(client.get("CodeSystem/animals/$subsumes", params={"codeA": a, "codeB": b})) == {"outcome": outcome}


def test_subsumes_refuses_unknown_codes_and_two_systems(client) -> None:
    refused(client.get("CodeSystem/$subsumes", params={"system": SYSTEM["url"], "codeA": "cat", "codeB": "dog"}), 404, "cat")
    refused(client.get("CodeSystem/$subsumes", params={"system": SYSTEM["url"], "codeA": "dog"}), 400, "codeB")


# --- $expand


def codes(answer):
    assert answer.status_code == 200, answer.text[:400]
    assert answer.json()["resourceType"] == "ValueSet"
    return [one["code"] for one in answer.json()["expansion"].get("contains", ())]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("dogs", ["dog", "poodle"]), ("all", ["animal", "dog", "poodle", "dodo"]), ("few", ["animal", "dog", "poodle"]), ("legs", ["dog"])],
)
def test_expand_works_out_filters_imports_and_exclusions(client, name, wanted) -> None:
    assert codes(client.get("ValueSet/$expand", params={"url": f"{OWN}ValueSet/{name}"})) == wanted
    assert codes(client.get(f"ValueSet/{name}/$expand")) == wanted


def test_expand_of_r4s_own_set_and_of_one_that_comes_along(client) -> None:
    answer = client.get("ValueSet/$expand", params={"url": GENDERS})
    assert codes(answer) == ["male", "female", "other", "unknown"]
    assert answer.json()["expansion"]["total"] == 4 and "compose" not in answer.json()
    assert {"name": "version", "valueUri": f"{GENDER}|4.0.1"} in answer.json()["expansion"]["parameter"]
    own = value_set("x", {"include": [{"system": SYSTEM["url"], "concept": [{"code": "dog", "display": "Doggy"}]}]})
    answer = client.post("ValueSet/$expand", json=parameters(valueSet=own))
    assert answer.json()["expansion"]["contains"] == [{"system": SYSTEM["url"], "code": "dog", "display": "Doggy"}]


def test_expand_by_pages(client) -> None:
    url = {"url": ALL["url"]}
    answer = client.get("ValueSet/$expand", params={**url, "offset": 1, "count": 2})
    assert codes(answer) == ["dog", "poodle"]
    expansion = answer.json()["expansion"]
    assert (expansion["total"], expansion["offset"]) == (4, 1)
    assert codes(client.get("ValueSet/$expand", params={**url, "count": 0})) == []
    assert codes(client.get("ValueSet/$expand", params={**url, "offset": 9})) == []


@pytest.mark.parametrize(
    ("filter", "wanted"), [("do", ["dog", "dodo"]), ("DOG", ["dog"]), ("狗", ["dog"]), ("贵宾", ["poodle"]), ("cat", [])]
)
def test_expand_with_a_filter(client, filter, wanted) -> None:
    assert codes(client.get("ValueSet/$expand", params={"url": ALL["url"], "filter": filter})) == wanted


def test_expand_leaves_out_what_is_not_used_and_marks_what_is_not_chosen(client) -> None:
    answer = client.get("ValueSet/$expand", params={"url": ALL["url"]}).json()["expansion"]["contains"]
    assert {one["code"]: (one.get("abstract", False), one.get("inactive", False)) for one in answer} == {
        "animal": (True, False), "dog": (False, False), "poodle": (False, False), "dodo": (False, True),
    }  # fmt: skip
    assert codes(client.get("ValueSet/$expand", params={"url": ALL["url"], "activeOnly": "true"})) == ["animal", "dog", "poodle"]
    assert codes(client.get("ValueSet/$expand", params={"url": ALL["url"], "excludeNotForUI": "true"})) == ["dog", "poodle", "dodo"]


def test_expand_in_another_language_with_designations(client) -> None:
    answer = client.get("ValueSet/$expand", params={"url": DOGS["url"], "displayLanguage": "zh", "includeDesignations": "true"})
    dog, poodle = answer.json()["expansion"]["contains"]
    assert (dog["display"], poodle["display"]) == ("狗", "贵宾犬")
    assert {"language": "de", "value": "Hund"} in dog["designation"]


def test_expand_refuses_what_it_cannot_tell(client) -> None:
    refused(client.get("ValueSet/$expand", params={"url": LOINC["url"]}), 422, "http://loinc.org")
    refused(client.get("ValueSet/$expand", params={"url": "http://nowhere.org/vs"}), 404, "http://nowhere.org/vs")
    refused(client.get("ValueSet/$expand"), 400, "url")
    refused(client.get("ValueSet/$expand", params={"url": ALL["url"], "count": "-1"}), 400, "count")
    refused(client.get("ValueSet/$expand", params={"url": ALL["url"], "activeOnly": "maybe"}), 400, "activeOnly")


# --- $translate


def test_translate_by_r4s_own_map(client) -> None:
    """https://hl7.org/fhir/R4/cm-address-use-v2.html: home is H."""
    asked = {"url": "http://hl7.org/fhir/ConceptMap/cm-address-use-v2", "system": "http://hl7.org/fhir/address-use", "code": "home"}
    told = values(client.get("ConceptMap/$translate", params=asked))
    assert told["result"] is True and told["match"]["concept"]["code"] == "H"


def test_translate_by_a_stored_map_forwards_and_backwards(client) -> None:
    ask = lambda **more: values(client.get("ConceptMap/$translate", params={"url": MAP["url"], **more}))  # noqa: E731
    told = ask(system=SYSTEM["url"], code="dog")
    assert told["match"]["equivalence"] == "wider" and told["match"]["concept"] == {"system": "urn:other", "code": "D", "display": "Canine"}
    back = ask(system="urn:other", code="D", reverse="true")
    assert back["match"]["equivalence"] == "narrower" and back["match"]["concept"]["code"] == "dog"
    assert ask(system=SYSTEM["url"], code="dodo")["result"] is False
    assert ask(system=SYSTEM["url"], code="poodle")["match"]["concept"]["code"] == "X"
    assert values(client.get("ConceptMap/m/$translate", params={"system": SYSTEM["url"], "code": "dog"}))["result"] is True


def test_translate_finds_the_map_between_two_value_sets(client) -> None:
    asked = {"source": ALL["url"], "target": MAP["targetUri"], "system": SYSTEM["url"], "code": "dog"}
    assert values(client.get("ConceptMap/$translate", params=asked))["match"]["source"] == MAP["url"]
    told = values(client.get("ConceptMap/$translate", params={"targetsystem": "urn:other", "system": SYSTEM["url"], "code": "dog"}))
    assert told["match"]["concept"]["code"] == "D"


SMALL = {"property": "urn:size", "system": "urn:sizes", "value": "small"}
DEPENDING = {
    "resourceType": "ConceptMap", "id": "depending", "url": OWN + "ConceptMap/depending", "status": "active",
    "group": [
        {
            "source": SYSTEM["url"], "target": "urn:other",
            "element": [
                {
                    "code": "dog",
                    "target": [
                        {"code": "S", "equivalence": "equal", "dependsOn": [SMALL]},
                        {"code": "B", "equivalence": "equal", "dependsOn": [{"property": "urn:size", "value": "big"}]},
                        {
                            "code": "SW", "equivalence": "equal", "dependsOn": [
                                {**SMALL, "system": "urn:sizes|2"}, {"property": "urn:coat", "value": "white"},
                            ],
                        },
                    ],
                },
                {"code": "poodle", "target": [{"code": "P", "equivalence": "equal"}]},
            ],
            "unmapped": {"mode": "other-map", "url": OWN + "ConceptMap/further"},
        }
    ],
}  # fmt: skip
FURTHER = {
    "resourceType": "ConceptMap", "id": "further", "url": OWN + "ConceptMap/further", "status": "active",
    "group": [
        {
            "source": SYSTEM["url"], "target": "urn:other",
            "element": [
                {"code": "dodo", "target": [{"code": "F", "equivalence": "equal", "dependsOn": [{"property": "urn:size", "value": "big"}]}]}
            ],
        }
    ],
}  # fmt: skip


def dependency(element, *codings):
    concept = {"coding": [{"system": system, "code": code} for system, code in codings]}
    return {"name": "dependency", "part": [{"name": "element", "valueUri": element}, {"name": "concept", "valueCodeableConcept": concept}]}


@pytest.mark.parametrize(
    ("code", "given", "wanted"),
    [
        ("dog", [dependency("urn:size", ("urn:sizes", "small"))], ["S"]),
        ("dog", [dependency("urn:size", ("urn:others", "small"))], []),
        ("dog", [dependency("urn:size", ("urn:x", "petite"), ("urn:sizes", "small"))], ["S"]),
        ("dog", [dependency("urn:size", ("urn:x", "big"))], ["B"]),
        ("dog", [dependency("urn:size", ("urn:sizes", "small")), dependency("urn:coat", ("urn:coats", "white"))], ["S", "SW"]),
        ("dog", [dependency("urn:size", ("urn:x", "big")), dependency("urn:size", ("urn:sizes", "small"))], ["S", "B"]),
        ("dog", [dependency("urn:other", ("urn:sizes", "small"))], []),
        ("dog", [], []),
        ("dodo", [dependency("urn:size", ("urn:x", "big"))], ["F"]),
        ("poodle", [], ["P"]),
    ],
)
def test_translate_looks_at_what_a_target_depends_on(client, code, given, wanted) -> None:
    """https://hl7.org/fhir/R4/conceptmap-definitions.html#ConceptMap.group.element.target.dependsOn"""
    for one in (DEPENDING, FURTHER):
        assert client.put(f"ConceptMap/{one['id']}", json=one).status_code in (200, 201)
    rows = [
        {"name": "url", "valueUri": DEPENDING["url"]},
        {"name": "coding", "valueCoding": {"system": SYSTEM["url"], "code": code}},
        *given,
    ]
    answer = client.post("ConceptMap/$translate", json={"resourceType": "Parameters", "parameter": rows})
    assert answer.status_code == 200, answer.text
    matches = [row["part"] for row in answer.json()["parameter"] if row["name"] == "match"]
    assert [part["valueCoding"]["code"] for match in matches for part in match if part["name"] == "concept"] == wanted


@pytest.mark.parametrize(
    "given",
    [
        {"valueString": "urn:size"},
        {"resource": {"resourceType": "Basic", "code": {"text": "x"}}},
        {"part": [{"name": "element", "valueUri": "urn:size"}]},
        {"part": [{"name": "concept", "valueCodeableConcept": {"text": "x"}}]},
        {"part": [{"name": "element", "valueUri": "urn:size"}, {"name": "concept", "valueString": "small"}]},
    ],
)
def test_translate_refuses_a_dependency_without_element_and_concept(client, given) -> None:
    rows = [{"name": "url", "valueUri": MAP["url"]}, {"name": "coding", "valueCoding": {"system": SYSTEM["url"], "code": "dog"}}]
    asked = {"resourceType": "Parameters", "parameter": [*rows, {"name": "dependency", **given}]}
    answer = client.post("ConceptMap/$translate", json=asked, headers={"Accept-Language": "zh"})
    refused(answer, 400, "dependency")
    assert "dependency" in answer.json()["issue"][0]["details"]["text"]
    refused(
        client.get("ConceptMap/$translate", params={"url": MAP["url"], "system": "x", "code": "y", "dependency": "z"}), 400, "dependency"
    )


def test_translate_of_what_is_not_here(client) -> None:
    refused(
        client.get("ConceptMap/$translate", params={"url": "http://nowhere.org/cm", "system": "x", "code": "y"}),
        404,
        "http://nowhere.org/cm",
    )
    refused(client.get("ConceptMap/$translate", params={"system": "x", "code": "y"}), 400, "url")
    refused(client.get("ConceptMap/$translate", params={"url": MAP["url"]}), 400, "code")


def test_a_changed_system_counts_at_once(client) -> None:
    more = {**SYSTEM, "concept": [*SYSTEM["concept"], {"code": "cat", "display": "Cat"}]}
    assert client.put("CodeSystem/animals", json=more).status_code == 200
    assert values(client.get("CodeSystem/$lookup", params={"system": SYSTEM["url"], "code": "cat"}))["display"] == "Cat"


def test_messages_in_chinese(client) -> None:
    answer = client.get("ValueSet/$expand", params={"url": "http://nowhere.org/vs"}, headers={"Accept-Language": "zh"})
    assert "没有值集" in answer.json()["issue"][0]["details"]["text"]
    chinese = {"Accept-Language": "zh-CN"}
    answer = client.get("ValueSet/$expand", params={"url": LOINC["url"]}, headers=chinese)
    assert answer.json()["issue"][0]["details"]["text"] == f"无法展开值集 {LOINC['url']}：本机没有 http://loinc.org 的编码"
    told = values(client.get("CodeSystem/$validate-code", params={"url": SYSTEM["url"], "code": "cat"}, headers=chinese))
    assert told["message"] == f"“cat”不是 {SYSTEM['url']} 的编码"
    told = values(client.get("ValueSet/$validate-code", params={"url": DOGS["url"], "code": "dodo", "displayLanguage": "zh"}))
    assert told["message"] == f"“dodo”不在 {DOGS['url']} 中"


# --- wrong and hostile input


@pytest.mark.parametrize(
    "broken",
    [{"compose": "x"}, {"compose": {"include": [{"system": 5}]}}, {"compose": {"include": [{"system": "urn:x", "concept": [{}]}]}}],
)
def test_value_sets_that_are_none_are_refused(client, broken) -> None:
    answer = client.post("ValueSet/$expand", json=parameters(valueSet={"resourceType": "ValueSet", "status": "active", **broken}))
    assert answer.status_code in (400, 422), answer.text


def test_resources_of_another_type_are_refused(client) -> None:
    refused(client.post("ValueSet/$expand", json=parameters(valueSet={"resourceType": "Patient"})), 400, "valueSet")


def test_a_long_row_of_imports_ends(client) -> None:
    for number in range(60):
        compose = {"include": [{"valueSet": [f"{OWN}ValueSet/n{number - 1}"]} if number else {"system": SYSTEM["url"]}]}
        client.put(f"ValueSet/n{number}", json=value_set(f"n{number}", compose))
    assert client.get("ValueSet/n10/$expand").status_code == 200
    refused(client.get("ValueSet/n59/$expand"), 422, "deep")


def test_codes_of_a_system_that_is_not_here_are_not_said_to_be_valid(client) -> None:
    told = values(client.get("ValueSet/$validate-code", params={"url": LOINC["url"], "system": "http://loinc.org", "code": "bogus"}))
    assert told["result"] is False and "not here" in told["message"]
    units = "http://hl7.org/fhir/ValueSet/ucum-units"
    for code, result in (("mg/dL", True), ("bogus", False)):
        asked = {"url": units, "system": "http://unitsofmeasure.org", "code": code}
        assert values(client.get("ValueSet/$validate-code", params=asked))["result"] is result


def test_versions_that_are_not_here(client) -> None:
    asked = {"system": GENDER, "code": "male", "version": "99"}
    refused(client.get("CodeSystem/$lookup", params=asked), 404, GENDER)
    refused(client.get("ValueSet/$expand", params={"url": GENDERS, "valueSetVersion": "99"}), 404, GENDERS)
    assert values(client.get("CodeSystem/$lookup", params={**asked, "version": "4.0.1"}))["display"] == "Male"


def test_an_instance_answers_for_its_own_system_only(client) -> None:
    refused(client.get("CodeSystem/animals/$lookup", params={"system": "http://other.org", "code": "dog"}), 400, "http://other.org")
    codings = {f"coding{letter}": {"system": "http://other.org", "code": "dog"} for letter in "AB"}
    refused(client.post("CodeSystem/animals/$subsumes", json=parameters(**codings)), 400, "http://other.org")
    told = values(client.get("CodeSystem/animals/$lookup", params={"code": "poodle", "displayLanguage": "zh"}))
    assert told["display"] == "贵宾犬"
