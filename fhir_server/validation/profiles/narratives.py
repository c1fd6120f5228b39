"""What a profile says of a narrative: whether its parts name their language, and where they come from.

Specification: https://hl7.org/fhir/extensions/StructureDefinition-narrative-language-control.html,
https://hl7.org/fhir/extensions/StructureDefinition-narrative-source-control.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fhir_server.model.xhtml import Section, sections_of
from fhir_server.validation.report import shown
from fhir_server.validation.values import listed

_LANGUAGE = "http://hl7.org/fhir/StructureDefinition/narrative-language-control"
_SOURCE = "http://hl7.org/fhir/StructureDefinition/narrative-source-control"
_SOURCES = frozenset({"boilerplate", "generated", "original", "extensions", "additional"})
_SEVERITIES = ("error", "warning", "information")
Add = Callable[[str, str, str, str], None]
"""English, Chinese, rule, severity."""


@dataclass(slots=True, frozen=True)
class Control:
    """`languages`: `_no`, `_yes`, `_resource`, or languages, of all of which sections are due.

    `source`: severity of a part without source, or ''.
    """

    languages: tuple[str, ...]
    source: str

    def check(self, narrative: Mapping[str, Any], language: Any, add: Add) -> None:
        """A narrative of a resource in `language`."""
        div = narrative.get("div")
        if not isinstance(div, str):
            return
        sections = sections_of(div)
        if self.source:
            self._sources(sections, add)
        spoken = list(dict.fromkeys(one.language for one in sections if one.language))
        for due in self.languages:
            self._language(due, spoken, language, add)

    def _sources(self, sections: list[Section], add: Add) -> None:
        for one in sections:
            if _SOURCES.isdisjoint(one.classes):
                english = f"the part {shown(one.text)} of the narrative does not say in its class where it comes from"
                add(
                    f"{english} ({', '.join(sorted(_SOURCES))})",
                    f"叙述中的 {shown(one.text)} 未用 class 注明来源",
                    "narrative-source",
                    self.source,
                )

    def _language(self, due: str, spoken: list[str], language: Any, add: Add) -> None:
        has = ", ".join(spoken)
        if due == "_no":
            if spoken:
                english = f"the narrative has sections by language ({has}), which the profile forbids"
                add(english, f"叙述按语言分节（{has}），规范不允许", "narrative-language", "error")
        elif not spoken:
            add("the narrative has no sections by language", "叙述没有按语言分节", "narrative-language", "error")
        elif due != "_yes":
            wanted = language if due == "_resource" else due
            if isinstance(wanted, str) and wanted not in spoken:
                english = f"the narrative has no section in {wanted}, only in {has}"
                add(english, f"叙述没有 {wanted} 的部分，只有 {has}", "narrative-language", "error")


def control_of(definition: Mapping[str, Any]) -> Control | None:
    """What an ElementDefinition says of a narrative; None where it says nothing."""
    languages: list[str] = []
    source = ""
    for one in listed(definition, "extension"):
        value = one.get("valueCode")
        if one.get("url") == _LANGUAGE and isinstance(value, str):
            languages.append(value)
        elif one.get("url") == _SOURCE and value in _SEVERITIES:
            source = str(value)
    return Control(tuple(languages), source) if languages or source else None
