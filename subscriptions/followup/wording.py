"""Words of messages: greetings by age and sex, and logic-less templates.

Specification: followup.md section 10. A variable without a value makes no message (the caller opens a Task `fix-template`).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from subscriptions.followup.calendar import age

Resource = dict[str, Any]

_PLACE = re.compile(r"\{\{\s*([A-Za-z][A-Za-z0-9_.-]*)\s*\}\}")
_COMPOUND = "欧阳司马上官诸葛东方皇甫尉迟公孙慕容令狐司徒司空夏侯"
_COMPOUND += "端木轩辕南宫长孙宇文鲜于闾丘独孤西门百里呼延申屠太史"
_COMPOUND_SURNAMES = frozenset(re.findall("..", _COMPOUND))


class MissingVariable(Exception):
    """A template names a variable that has no value."""


def render(template: str, variables: dict[str, str]) -> str:
    """The text with `{{name}}` replaced. Raises MissingVariable for one that is unknown or empty."""

    def fill(match: re.Match[str]) -> str:
        value = variables.get(match[1])
        if not value:
            raise MissingVariable(f"the template's variable '{match[1]}' has no value")
        return value

    return _PLACE.sub(fill, template)


def placeholders(template: str) -> set[str]:
    """The variables that a template names."""
    return set(_PLACE.findall(template))


def full_name(person: Resource) -> str:
    """The name as it is written, '' when none."""
    names = [n for n in person.get("name", ()) if isinstance(n, dict) and n.get("use") != "old"]
    for name in names:
        if name.get("text"):
            return str(name["text"])
    for name in names:
        joined = "".join([str(name.get("family", "")), *map(str, name.get("given", ()))])
        if joined:
            return joined
    return ""


def surname(person: Resource) -> str:
    """The family name; cut from the full name (compound surnames known) where it is not given apart."""
    for name in person.get("name", ()):
        if isinstance(name, dict) and name.get("family") and name.get("use") != "old":
            return str(name["family"])
    name = full_name(person)
    return name[:2] if name[:2] in _COMPOUND_SURNAMES else name[:1]


def greeting(patient: Resource, today: dt.date) -> str:
    """How the patient is addressed: 王阿姨 from 60 years, 李先生 from 18, 家长 for a child; the full name where age or sex is unknown.

    '您好' without any name. A generic title is never used.
    """
    name, years, sex = full_name(patient), age(patient.get("birthDate"), today), patient.get("gender")
    if not name:
        return "您好"
    if years is not None and years < 18:
        return f"{name}的家长"
    if years is None or sex not in ("male", "female"):
        return name
    title = ("叔叔" if years >= 60 else "先生") if sex == "male" else ("阿姨" if years >= 60 else "女士")
    return surname(patient) + title
