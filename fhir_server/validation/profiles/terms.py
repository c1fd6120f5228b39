"""Codes against value sets and code systems, as far as these are known here.

Specification: https://hl7.org/fhir/R4/terminologies.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.items import Item
from fhir_server.model.definitions import definitions
from fhir_server.terminology.displays import plain, texts
from fhir_server.terminology.room import Terminology
from fhir_server.terminology.value_sets import NotEnumerable
from fhir_server.validation.bindings import FORMS, code_rule


class Terms:
    """Answers True, False, or None where it cannot be told from what is here."""

    def __init__(self, terminology: Terminology) -> None:
        self._terminology = terminology

    def has(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a code is in a value set; without a system, in any of its systems."""
        form = FORMS.get(value_set.partition("|")[0])
        if form is not None:
            return bool(form[0].match(code)) if system in (None, "") or value_set.endswith("languages") else None
        try:
            content = self._terminology.value_set(value_set)
        except NotEnumerable:
            return None
        if content is None:
            return self._official(value_set, system, code)
        if system is not None:
            if system in content.systems:
                known = self.known(system, content.versions.get(system, ""), code)
                return known if known is not True else code not in content.systems[system]
            return content.has(system, code) or content.has(system, self._terminology.normal(system, code))
        if any(its_code == code for _, its_code in content.codes):
            return True
        return None if content.systems else False

    def _official(self, value_set: str, system: str | None, code: str) -> bool | None:
        rule = code_rule(definitions(), value_set)
        if rule is None or rule.codes is None:
            return None
        if system is None:
            return code in rule.codes
        codings = definitions().codings(value_set)
        return None if codings is None else (system, code) in codings

    def has_any(self, value_set: str, item: Item) -> bool | None:
        """Whether a code, Coding, CodeableConcept or Quantity has a code of the value set."""
        pairs = pairs_of(item)
        if pairs is None:
            return None
        answers = [self.has(value_set, system, code) for system, code in pairs]
        return True if True in answers else None if None in answers else False

    def known(self, system: str, version: str, code: str) -> bool | None:
        """Whether a code system has a code; None where the system is not here as a whole."""
        found = self._terminology.code_system(system, version)
        if found is None or not found.whole:
            return None
        return found.find(code) is not None

    def displays(self, system: str, version: str, code: str) -> frozenset[str]:
        """All texts that the system has for a code; empty where it is not known."""
        found = self._terminology.code_system(system, version)
        concept = found.find(code) if found else None
        return frozenset(map(plain, texts(concept))) if concept is not None else frozenset()

    def of_another(self, system: str, version: str, code: str, display: str) -> bool:
        """Whether a text is that of another code of a system that is listed here."""
        found = self._terminology.code_system(system, version)
        if found is None or not found.listed:
            return False
        text = plain(display)
        return any(one.code != code and text in map(plain, texts(one)) for one in found.concepts.values())

    def member(self, function: str, item: Item, argument: Any) -> bool | None:
        """What FHIRPath asks: memberOf, subsumes, subsumedBy."""
        if function == "memberOf":
            return self.has_any(str(argument), item)
        mine, other = pairs_of(item), pairs_of(Item(argument, item.kind))
        if not mine or not other:
            return None
        for system, code in mine:
            for its_system, its_code in other:
                found = self._terminology.code_system(system or "") if system == its_system else None
                relation = found.subsumes(code, its_code) if found else None
                wanted = ("equivalent", "subsumes" if function == "subsumes" else "subsumed-by")
                if relation in wanted:
                    return True
        return False


def pairs_of(item: Item) -> list[tuple[str | None, str]] | None:
    """(system, code) of what is coded; a system of None for a code alone; None of a type that has no codes."""
    value, kind = item.value, item.kind.name
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return None
    if kind == "CodeableConcept" or "coding" in value:
        rows = value.get("coding")
        return [pair for row in rows if isinstance(row, dict) for pair in _pair(row)] if isinstance(rows, list) else []
    if kind == "Coding" or "code" in value:
        return _pair(value)
    return []


def _pair(row: dict[str, Any]) -> list[tuple[str | None, str]]:
    system, code = row.get("system"), row.get("code")
    return [(system if isinstance(system, str) else "", code)] if isinstance(code, str) else []


CUT = 50


def same_display(text: str, displays: frozenset[str]) -> bool:
    """Whether a display is one of the texts, or begins with one that the tables of v3 have cut to 50 characters."""
    mine = plain(text)
    return mine in displays or any(len(one) >= CUT - 1 and mine.startswith(one) for one in displays if len(one) <= CUT)
