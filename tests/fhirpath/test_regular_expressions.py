"""Regular expressions end, whatever pattern and text they are given. docs/decisions/0022-regular-expressions.md"""

from __future__ import annotations

import time

import pytest

from fhir_server.fhirpath import FhirPathError, compile_expression
from fhir_server.fhirpath.functions.regex import PER_MINUTE, pattern, replaced


def result(expression: str) -> list[object]:
    return [item.value for item in compile_expression(expression).evaluate(None)]


@pytest.mark.parametrize(
    "text", ["a*a*a*a*a*a*c", "(a+)+c", "(a|aa)*c", "(a|a)*c", "(.*a){20}c", "(a?){30}a{30}c", r"(\w+\s?)*c", "(a{0,30}){0,30}c"]
)
def test_what_would_try_for_ever_is_answered_at_once(text: str) -> None:
    started = time.monotonic()
    assert not pattern(text).search("a" * 30_000 + "b")
    assert not pattern(text).fullmatch("a" * 30_000 + "b")
    assert pattern(text).search("a" * 30_000 + "c")
    assert time.monotonic() - started < 3  # trying took minutes


@pytest.mark.parametrize("text", [r"(?!x)(a|aa)+$", r"(a)\1*(a|aa)*c"])
def test_what_must_be_tried_ends_by_the_clock(text: str) -> None:
    started = time.monotonic()
    for _ in range(40):
        with pytest.raises(FhirPathError, match="takes too long"):
            pattern(text).search("a" * 5_000 + "b")
    assert time.monotonic() - started < 10 * PER_MINUTE


def test_a_pattern_and_a_text_are_not_without_end() -> None:
    for text, subject in (("a" * 1001, "a"), ("((a{0,10}){0,10}){0,10}", "a" * 900_000), ("a", "a" * 1_000_001)):
        with pytest.raises(FhirPathError):
            pattern(text).search(subject)
    for wrong in ("(", "[", "*a", r"\p{Nothing}"):
        with pytest.raises(FhirPathError, match="no regular expression"):
            pattern(wrong)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (r"'2026-11-28'.matches('^\\d{4}-\\d{2}-\\d{2}$')", True),
        ("'line\nline'.matches('e.l')", True),  # single-line mode: a dot is any character
        ("'abc'.matches('B')", False), ("'abc'.matches('(?i)B')", True), ("'abc'.matchesFull('b')", False),
        (r"'王小明'.matches('^\\p{Han}+$')", True), (r"'password1'.matches('(?=.*\\d)(?=.*[a-z]).{8,}')", True),
        (r"'noon'.matches('^(.)(.)\\2\\1$')", True), (r"'id-12'.matches('(?<!x)\\d+')", True),
    ],
)  # fmt: skip
def test_what_they_mean(expression: str, found: bool) -> None:
    assert result(expression) == [found]


def test_groups_are_put_in_by_number_and_name() -> None:
    assert replaced("2026-11-28", r"(\d+)-(\d+)-(\d+)", "$3.$2.$1") == "28.11.2026"
    assert replaced("2026-11-28", r"(?<year>\d{4})-.*", "${year} $9 ${month}") == "2026 $9 ${month}"
    assert replaced("aXbX", "(?<=a)X", "Y") == "aYbX" and replaced("abc", "", "x") == "abc"
