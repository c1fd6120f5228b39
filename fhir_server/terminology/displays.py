"""Texts of a concept in the language that somebody asks for.

Specification: https://hl7.org/fhir/R4/codesystem-definitions.html#CodeSystem.concept.designation, https://www.rfc-editor.org/rfc/rfc4647#section-3.4
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from fhir_server.terminology.code_systems import Concept


def wanted(header: str) -> list[str]:
    """The languages of an `Accept-Language` header or `displayLanguage`, the liked best first; '*' and those of quality 0 left out."""
    found: list[tuple[float, int, str]] = []
    for at, part in enumerate(header.split(",")):
        tag, _, more = part.strip().partition(";")
        quality = more.strip().removeprefix("q=") if more else "1"
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        if tag and tag != "*" and weight > 0:
            found.append((-weight, at, tag.strip().lower()))
    return [tag for _, _, tag in sorted(found)]


def fits(language: str, tag: str) -> bool:
    """Whether a text in `language` serves somebody who asks for `tag`: zh-CN serves zh, and zh serves zh-CN."""
    mine, asked = language.lower(), tag.lower()
    return mine == asked or mine.startswith(asked + "-") or asked.startswith(mine + "-")


def display(concept: Concept, languages: list[str], own: str = "") -> str:
    """The text for the first language in which there is one; else the display. `own`: the language of the display."""
    for tag in languages:
        if own and fits(own, tag):
            return concept.display
        for one in concept.designations:
            if fits(str(one.get("language", "")), tag) and one.get("language"):
                return str(one.get("value", ""))
    return concept.display


def texts(concept: Concept) -> Iterator[str]:
    """All texts by which a concept is known."""
    if concept.display:
        yield concept.display
    for one in concept.designations:
        if one.get("value"):
            yield str(one["value"])


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Texts that differ in spaces and case only are one."""
    return " ".join(text.split()).casefold()


def designation(one: Mapping[str, Any]) -> dict[str, Any]:
    """A designation as ValueSet expansions have it."""
    return {key: one[key] for key in ("language", "use", "value") if key in one}
