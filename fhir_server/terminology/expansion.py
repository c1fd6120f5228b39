"""A value set as the list that people choose from: filtered, paged, in their language.

Specification: https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.terminology.code_systems import CodeSystem, Concept
from fhir_server.terminology.displays import designation, display, fits, texts
from fhir_server.terminology.large import LargeCodeSystem
from fhir_server.terminology.room import Terminology
from fhir_server.terminology.value_sets import Content, Listed

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
    kinds: tuple[tuple[str, str], ...] = ()
    """(system, code) of the uses or languages (system urn:ietf:bcp:47) of which designations are wished; none: all."""


def expansion(room: Terminology, content: Content, wishes: Wishes, parameters: Sequence[Mapping[str, Any]], now: str) -> dict[str, Any]:
    """The element `ValueSet.expansion`. `parameters`: how it was asked for; `now`: the time, as FHIR writes it.

    Raises NotEnumerable for whole systems whose codes are not here, TooCostly for more than MOST codes at once.
    """
    limited: list[str] = []
    rows = list(_chosen(room, content, wishes, limited))
    if wishes.count is None and len(rows) > MOST:
        raise TooCostly(
            f"the expansion has {len(rows)} codes, of which at most {MOST} come at once: use count and offset, or filter",
            f"展开结果有 {len(rows)} 个编码，一次最多返回 {MOST} 个：请使用 count 与 offset，或用 filter 过滤",
        )
    page = rows[wishes.offset :] if wishes.count is None else rows[wishes.offset : wishes.offset + wishes.count]
    found: dict[str, Any] = {"identifier": f"urn:uuid:{uuid.uuid4()}", "timestamp": now}
    if not limited:  # else nobody knows
        found["total"] = len(rows)
    if wishes.offset or wishes.count is not None:
        found["offset"] = wishes.offset
    said = [*parameters, *_versions(room, rows)]
    if limited:
        said.append({"name": "limitedExpansion", "valueBoolean": True})
    if said:
        found["parameter"] = said
    if page:
        found["contains"] = [_row(room, system, code, listed, wishes) for system, code, listed in page]
    return found


Row = tuple[str, str, Listed]
"""System, code, what the value set says of it."""


def _chosen(room: Terminology, content: Content, wishes: Wishes, limited: list[str]) -> Iterator[Row]:
    """The codes that are wanted, in order. `limited` gets the URL of a large system of which more was found than is told."""
    words = wishes.filter.casefold().split()
    whole = {
        url: held for url in content.systems if isinstance(held := room.code_system(url, content.versions.get(url, "")), LargeCodeSystem)
    }
    if whole and words and len(whole) == len(content.systems):
        for url, held in whole.items():
            told = 0
            for one in held.search(words):
                if one.code in content.systems[url] or (wishes.active_only and one.inactive) or not _matches(words, one.code, NOTHING, one):
                    continue
                if told == FOUND:
                    limited.append(url)
                    break
                told += 1
                yield url, one.code, Listed(one.display, content.versions.get(url, ""))
        listed: Mapping[tuple[str, str], Listed] = content.codes
    else:
        listed = content.enumerated()
    for (system, code), said in listed.items():
        concept = _concept(room, system, code, said.version)
        if wishes.active_only and (said.inactive if said.inactive is not None else concept is not None and concept.inactive):
            continue
        if wishes.not_for_ui and (said.abstract or (concept is not None and concept.abstract)):
            continue
        if words and not _matches(words, code, said, concept):
            continue
        yield system, code, said


NOTHING = Listed()


def _matches(words: list[str], code: str, said: Listed, concept: Concept | None) -> bool:
    """Each word begins a word of one of the texts, or of the code; of Chinese texts, which have no words, each stands in it."""
    own = [said.display, *(str(one.get("value", "")) for one in said.designations)]
    held = [one.casefold() for one in (code, *own, *(texts(concept) if concept else ()))]
    return all(any(_begins(word, one) for one in held) for word in words)


def _begins(word: str, text: str) -> bool:
    if any(ord(letter) > 0x2E7F for letter in word):
        return word in text
    at = text.find(word)
    while at > 0 and text[at - 1].isalnum():  # within a word
        at = text.find(word, at + 1)
    return at >= 0


def _concept(room: Terminology, system: str, code: str, version: str) -> Concept | None:
    found = room.code_system(system, version) if system else None
    return found.find(code) if found else None


def _row(room: Terminology, system: str, code: str, said: Listed, wishes: Wishes) -> dict[str, Any]:
    row: dict[str, Any] = {"system": system} if system else {}
    held = room.code_system(system, said.version) if system else None
    concept = held.find(code) if held else None
    if said.abstract or (concept is not None and concept.abstract):
        row["abstract"] = True
    if said.inactive if said.inactive is not None else concept is not None and concept.inactive:
        row["inactive"] = True
    if said.version:
        row["version"] = said.version
    row["code"] = code
    own = concept.display if concept else ""
    shown = said.display or own
    designations = (*said.designations, *(concept.designations if concept else ()))
    if wishes.languages:
        language = held.language if held is not None and shown == own else ""
        shown = display(Concept(code, shown, designations=designations), list(wishes.languages), language)
    if shown:
        row["display"] = shown
    if wishes.designations or wishes.kinds:
        told = [designation(one) for one in designations if _wished(one, wishes.kinds)]
        if told:
            row["designation"] = told
    return row


def _wished(one: Mapping[str, Any], kinds: Sequence[tuple[str, str]]) -> bool:
    """Whether a designation is of a language or use that is asked for."""
    use = one.get("use") or {}
    return not kinds or any(
        (system == LANGUAGES and fits(str(one.get("language", "")), code)) or (system, code) == (use.get("system"), use.get("code"))
        for system, code in kinds
    )


LANGUAGES = "urn:ietf:bcp:47"


def _versions(room: Terminology, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Which versions of systems were used."""
    for system, version in sorted({(system, said.version) for system, _, said in rows}):
        held: CodeSystem | None = room.code_system(system, version) if system else None
        used = version or (held.version if held is not None else "")
        if used:
            yield {"name": "version", "valueUri": f"{system}|{used}"}
