"""A value set as the list that people choose from: filtered, paged, in their language.

Specification: https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.terminology.code_systems import CodeSystem, Concept
from fhir_server.terminology.displays import designation, display, texts
from fhir_server.terminology.large import LargeCodeSystem
from fhir_server.terminology.room import Terminology
from fhir_server.terminology.value_sets import Content

MOST = 50_000
"""Most codes of an expansion that is not paged."""

FOUND = 1000
"""Most codes that a filter finds in a large code system; more words find fewer."""


class TooCostly(Exception):
    """The expansion would be larger than one that is not paged may be; the message says what to do. `zh`: the same in Chinese."""

    def __init__(self, english: str, zh: str) -> None:
        super().__init__(english)
        self.zh = zh


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of an expansion. `count` None: all; `languages`: liked best first."""

    filter: str = ""
    offset: int = 0
    count: int | None = None
    languages: tuple[str, ...] = ()
    active_only: bool = False
    designations: bool = False
    not_for_ui: bool = False
    """Leave out what is only there to group others (`excludeNotForUI`)."""


def expansion(room: Terminology, content: Content, wishes: Wishes, parameters: Sequence[Mapping[str, Any]], now: str) -> dict[str, Any]:
    """The element `ValueSet.expansion`. `parameters`: how it was asked for; `now`: the time, as FHIR writes it.

    Raises NotEnumerable for whole systems whose codes are not here, TooCostly for more than MOST codes at once.
    """
    rows = list(_chosen(room, content, wishes))
    if wishes.count is None and len(rows) > MOST:
        raise TooCostly(
            f"the expansion has {len(rows)} codes, of which at most {MOST} come at once: use count and offset, or filter",
            f"展开结果有 {len(rows)} 个编码，一次最多返回 {MOST} 个：请使用 count 与 offset，或用 filter 过滤",
        )
    page = rows[wishes.offset :] if wishes.count is None else rows[wishes.offset : wishes.offset + wishes.count]
    found: dict[str, Any] = {"identifier": f"urn:uuid:{uuid.uuid4()}", "timestamp": now, "total": len(rows)}
    if wishes.offset or wishes.count is not None:
        found["offset"] = wishes.offset
    said = [*parameters, *_versions(room, {system for system, _ in content.codes})]
    if said:
        found["parameter"] = said
    if page:
        found["contains"] = [_row(room, system, code, text, wishes) for system, code, text in page]
    return found


def _chosen(room: Terminology, content: Content, wishes: Wishes) -> Iterator[tuple[str, str, str]]:
    """(system, code, own text) of the codes that are wanted, in order."""
    words = wishes.filter.casefold().split()
    whole = {url: held for url in content.systems if isinstance(held := room.code_system(url), LargeCodeSystem)}
    if whole and words and len(whole) == len(content.systems):
        for url, held in whole.items():
            for one in held.search(words, FOUND):
                if one.code not in content.systems[url] and not (wishes.active_only and one.inactive):
                    yield url, one.code, one.display
        listed: Mapping[tuple[str, str], str] = content.codes
    else:
        listed = content.enumerated()
    for (system, code), text in listed.items():
        concept = _concept(room, system, code)
        if concept is not None:
            if wishes.active_only and concept.inactive:
                continue
            if wishes.not_for_ui and concept.abstract:
                continue
        if words and not _matches(words, code, text, concept):
            continue
        yield system, code, text


def _matches(words: list[str], code: str, text: str, concept: Concept | None) -> bool:
    """Each word begins a word of one of the texts, or of the code; of Chinese texts, which have no words, each stands in it."""
    held = [code.casefold(), text.casefold(), *(one.casefold() for one in (texts(concept) if concept else ()))]
    return all(any(_begins(word, one) for one in held) for word in words)


def _begins(word: str, text: str) -> bool:
    if any(ord(letter) > 0x2E7F for letter in word):
        return word in text
    return text.startswith(word) or any(part.startswith(word) for part in text.replace("-", " ").replace("(", " ").split())


def _concept(room: Terminology, system: str, code: str) -> Concept | None:
    found = room.code_system(system)
    return found.find(code) if found else None


def _row(room: Terminology, system: str, code: str, text: str, wishes: Wishes) -> dict[str, Any]:
    row: dict[str, Any] = {"system": system} if system else {}
    held = room.code_system(system) if system else None
    concept = held.find(code) if held else None
    if concept is not None and concept.abstract:
        row["abstract"] = True
    if concept is not None and concept.inactive:
        row["inactive"] = True
    row["code"] = code
    shown = text or (concept.display if concept else "")
    if concept is not None and held is not None and wishes.languages:
        translated = display(concept, list(wishes.languages), held.language)
        shown = translated if translated != concept.display else shown
    if shown:
        row["display"] = shown
    if wishes.designations and concept is not None and concept.designations:
        row["designation"] = [designation(one) for one in concept.designations]
    return row


def _versions(room: Terminology, systems: set[str]) -> Iterator[dict[str, Any]]:
    """Which versions of systems were used."""
    for system in sorted(systems):
        held: CodeSystem | None = room.code_system(system)
        if held is not None and held.version:
            yield {"name": "version", "valueUri": f"{system}|{held.version}"}
