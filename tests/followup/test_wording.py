"""Greetings and templates. followup.md section 10."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from subscriptions.followup.wording import MissingVariable, greeting, render

TODAY = dt.date(2026, 3, 2)


@pytest.mark.parametrize(
    ("person", "said"),
    [
        ({"name": [{"text": "王小红", "family": "王"}], "gender": "female", "birthDate": "1958-06-12"}, "王阿姨"),
        ({"name": [{"text": "孙建国"}], "gender": "male", "birthDate": "1950-01-01"}, "孙叔叔"),
        ({"name": [{"text": "李强", "family": "李"}], "gender": "male", "birthDate": "1990-03-07"}, "李先生"),
        ({"name": [{"text": "欧阳静"}], "gender": "female", "birthDate": "1990-03-07"}, "欧阳女士"),
        ({"name": [{"text": "陈乐乐"}], "gender": "male", "birthDate": "2024-03-07"}, "陈乐乐的家长"),
        ({"name": [{"family": "赵", "given": ["敏"]}], "gender": "unknown", "birthDate": "1990-01-01"}, "赵敏"),
        ({"name": [{"text": "周磊"}], "gender": "male"}, "周磊"),
        ({}, "您好"),
    ],
)
def test_greeting_goes_by_age_and_sex_and_is_never_generic(person: dict[str, Any], said: str) -> None:
    assert greeting(person, TODAY) == said


def test_template_fills_its_places() -> None:
    assert render("{{greeting}}，{{ name }}！", {"greeting": "李先生", "name": "李强"}) == "李先生，李强！"


@pytest.mark.parametrize("variables", [{}, {"name": ""}])
def test_a_missing_variable_makes_no_text(variables: dict[str, str]) -> None:
    with pytest.raises(MissingVariable, match="name"):
        render("{{name}}", variables)
