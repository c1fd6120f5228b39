"""Answers against their questionnaire. Specification: https://hl7.org/fhir/R4/questionnaireresponse.html#notes"""

from __future__ import annotations

import pytest

from tests.validation.profiled import BASE, broken

URL = "http://example.org/Questionnaire/q"


def questionnaire(*items):
    return {"resourceType": "Questionnaire", "url": URL, "status": "active", "item": list(items)}


def question(link, type="string", **more):
    return {"linkId": link, "type": type, **more}


def response(*items, status="completed"):
    return {"resourceType": "QuestionnaireResponse", "questionnaire": URL, "status": status, "item": list(items)}


def answer(link, *values, key="valueString", **more):
    return {"linkId": link, "answer": [{key: value} for value in values], **more}


def faults(asked, *given, **more):
    return [rule for rule, _ in broken(response(*given, **more), beside=(asked,))]


def test_a_required_answer_is_missing_only_when_the_response_is_finished() -> None:
    asked = questionnaire(question("1", required=True), question("2"))
    assert faults(asked, answer("1", "x")) == []
    assert faults(asked, answer("2", "x")) == ["answer-required"]
    assert faults(asked, answer("2", "x"), status="in-progress") == []


def test_questions_that_are_not_there_or_stand_elsewhere() -> None:
    asked = questionnaire(question("g", "group", item=[question("g.1")]), question("2"))
    assert faults(asked, answer("9", "x")) == ["question-unknown"]
    assert faults(asked, answer("g.1", "x")) == ["question-place"]
    assert faults(asked, answer("2", "x"), {"linkId": "g", "item": [answer("g.1", "x")]}) == ["question-order"]


@pytest.mark.parametrize(
    ("type", "key", "good", "bad_key", "bad"),
    [
        ("boolean", "valueBoolean", True, "valueString", "yes"),
        ("decimal", "valueDecimal", 1.5, "valueString", "1"),
        ("integer", "valueInteger", 1, "valueDecimal", 1.5),
        ("date", "valueDate", "2024-01-01", "valueString", "x"),
        ("text", "valueString", "x", "valueInteger", 1),
        ("url", "valueUri", "http://x", "valueString", "http://x"),
        ("quantity", "valueQuantity", {"value": 1}, "valueInteger", 1),
        ("choice", "valueCoding", {"code": "x"}, "valueString", "x"),
    ],
)
def test_an_answer_has_the_type_of_its_question(type, key, good, bad_key, bad) -> None:
    asked = questionnaire(question("1", type))
    assert faults(asked, answer("1", good, key=key)) == []
    assert faults(asked, answer("1", bad, key=bad_key)) == ["answer-type"]


def test_one_answer_unless_the_question_repeats() -> None:
    assert faults(questionnaire(question("1")), answer("1", "a", "b")) == ["answer-once"]
    assert faults(questionnaire(question("1", repeats=True)), answer("1", "a", "b")) == []
    assert faults(questionnaire(question("1", repeats=True)), answer("1", "a"), answer("1", "b")) == ["answer-once"]


def test_groups_and_texts_have_no_answers() -> None:
    asked = questionnaire(question("g", "group"), question("t", "display"))
    assert faults(asked, answer("g", "x"), answer("t", "x")) == ["answer-group", "answer-display"]


def test_what_is_below_a_question_stands_below_its_answer() -> None:
    asked = questionnaire(question("1", item=[question("1.1", required=True)]))
    right = {"linkId": "1", "answer": [{"valueString": "x", "item": [answer("1.1", "y")]}]}
    assert faults(asked, right) == []
    assert faults(asked, answer("1", "x")) == ["answer-required"]
    wrong = {"linkId": "1", "answer": [{"valueString": "x", "item": [answer("1.1", "y")]}], "item": [answer("1.1", "y")]}
    assert "answer-nesting" in faults(asked, wrong)


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "asked_for"),
    [
        ("exists", ("answerBoolean", True), 5, True),
        ("exists", ("answerBoolean", False), 5, False),
        ("=", ("answerInteger", 5), 5, True),
        ("!=", ("answerInteger", 5), 5, False),
        (">", ("answerInteger", 4), 5, True),
        ("<=", ("answerInteger", 4), 5, False),
    ],
)
def test_what_is_not_enabled_has_no_answer_and_need_not_have_one(operator, wanted, given, asked_for) -> None:
    when = {"question": "1", "operator": operator, wanted[0]: wanted[1]}
    asked = questionnaire(question("1", "integer"), question("2", required=True, enableWhen=[when]))
    first = answer("1", given, key="valueInteger")
    assert faults(asked, first, answer("2", "x")) == ([] if asked_for else ["enable-when"])
    assert faults(asked, first) == (["answer-required"] if asked_for else [])


@pytest.mark.parametrize(("behavior", "enabled"), [("all", False), ("any", True)])
def test_several_conditions(behavior, enabled) -> None:
    conditions = [{"question": "1", "operator": "=", "answerInteger": number} for number in (1, 2)]
    asked = questionnaire(question("1", "integer"), question("2", enableWhen=conditions, enableBehavior=behavior))
    given = (answer("1", 1, key="valueInteger"), answer("2", "x"))
    assert faults(asked, *given) == ([] if enabled else ["enable-when"])


def test_conditions_look_into_their_own_repetition_of_a_group() -> None:
    when = {"question": "g.1", "operator": "=", "answerBoolean": True}
    group = question("g", "group", repeats=True, item=[question("g.1", "boolean"), question("g.2", enableWhen=[when])])

    def repetition(value, *more):
        return {"linkId": "g", "item": [answer("g.1", value, key="valueBoolean"), *more]}

    assert faults(questionnaire(group), repetition(True, answer("g.2", "x")), repetition(False)) == []
    assert faults(questionnaire(group), repetition(True), repetition(False, answer("g.2", "x"))) == ["enable-when"]


def test_options_and_value_sets_of_options() -> None:
    options = [{"valueCoding": {"system": "urn:s", "code": code}} for code in ("a", "b")]
    asked = questionnaire(question("1", "choice", answerOption=options))
    assert faults(asked, answer("1", {"system": "urn:s", "code": "a"}, key="valueCoding")) == []
    assert faults(asked, answer("1", {"system": "urn:s", "code": "c"}, key="valueCoding")) == ["answer-option"]
    inside = {
        "resourceType": "ValueSet", "id": "v", "status": "active",
        "compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}]}]},
    }  # fmt: skip
    asked = {**questionnaire(question("1", "choice", answerValueSet="#v")), "contained": [inside]}
    assert faults(asked, answer("1", {"system": "urn:s", "code": "a"}, key="valueCoding")) == []
    assert faults(asked, answer("1", {"system": "urn:s", "code": "z"}, key="valueCoding")) == ["answer-option"]


def limited(type, **limits):
    rows = [{"url": BASE + name, key: value} for name, (key, value) in limits.items()]
    return questionnaire(question("1", type, extension=rows))


def test_limits_of_numbers_texts_and_forms() -> None:
    between = limited("integer", minValue=("valueInteger", 10), maxValue=("valueInteger", 20))
    assert [faults(between, answer("1", number, key="valueInteger")) for number in (9, 10, 21)] == [
        ["answer-minValue"],
        [],
        ["answer-maxValue"],
    ]
    assert faults(limited("decimal", maxDecimalPlaces=("valueInteger", 1)), answer("1", 1.25, key="valueDecimal")) == ["answer-places"]
    assert faults(limited("string", minLength=("valueInteger", 3)), answer("1", "ab")) == ["answer-length"]
    assert faults(questionnaire(question("1", maxLength=3)), answer("1", "abcd")) == ["answer-length"]
    assert faults(limited("string", regex=("valueString", r"\d{11}")), answer("1", "12")) == ["answer-regex"]


def test_a_form_that_could_run_for_ever_ends() -> None:
    assert faults(limited("string", regex=("valueString", r"(a+)+b")), answer("1", "a" * 40)) == ["answer-regex"]
    assert faults(limited("string", regex=("valueString", r"(a+)+b")), answer("1", "a" * 40 + "b")) == []


def test_an_option_that_excludes_the_others() -> None:
    none = {"valueCoding": {"code": "none"}, "extension": [{"url": BASE + "questionnaire-optionExclusive", "valueBoolean": True}]}
    asked = questionnaire(question("1", "choice", repeats=True, answerOption=[none, {"valueCoding": {"code": "a"}}]))
    assert faults(asked, answer("1", {"code": "none"}, key="valueCoding")) == []
    assert faults(asked, answer("1", {"code": "none"}, {"code": "a"}, key="valueCoding")) == ["answer-exclusive"]


def test_a_questionnaire_that_is_not_here_is_told() -> None:
    from tests.validation.profiled import room

    issues = room().validate(response(answer("1", "x")))
    assert [(one.severity, one.rule) for one in issues if one.rule == "questionnaire-unknown"] == [("warning", "questionnaire-unknown")]
