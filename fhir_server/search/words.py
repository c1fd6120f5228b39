"""The words of resources, for full-text search: of the narrative, of all content, and of what codes are called.

Words are folded like strings (case, accents, width, traditional characters do not count); a Chinese character is a word of its own, so
that any part of a Chinese text is found as a phrase.
Specification: https://hl7.org/fhir/R4/search.html#content, https://hl7.org/fhir/R4/search.html#token (:text)
Decision: docs/decisions/0051-full-text.md
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fhir_server.fhirpath.typed import typed_paths
from fhir_server.search.parameters import Parameter, Registry
from fhir_server.search.text import folded_whole

RULES = 1
"""Raised whenever the same resources give other words than before."""
GAP = "§"
"""Stands between two values, so that no phrase reaches from one into the next; no word contains it."""
LONGEST_WORD = 100
BLOB = 1000
"""A text without a blank that is longer than this is data, not words."""
_EAST = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_EAST}]|[^\W_{_EAST}]+")
_MARKUP = re.compile(r"<!--.*?-->|<[^>]*>", re.S)
_NAMED = ("CodeableConcept", "Coding", "Identifier")
_NOT_CONTENT = frozenset({"resourceType", "meta", "id", "div"})


class Words(NamedTuple):
    """The words of a resource as texts of words with single blanks between them; values are apart by GAP.

    `wording`: each text of a token parameter after its `marker`.
    """

    narrative: str
    content: str
    wording: str


def words(text: str) -> list[str]:
    """The words of a text, folded."""
    return [word[:LONGEST_WORD] for word in _WORD.findall(folded_whole(text))]


def marker(parameter: int) -> str:
    """Stands before the texts of a token parameter."""
    return f"{GAP}{parameter}"


class Wording:
    """Takes the words out of resources."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._steps: dict[str, list[tuple[frozenset[str] | None, Callable[[dict[str, Any]], Iterator[tuple[str, str]]]]]] = {}
        self._generation = registry.generation
        self._rules = ""

    @property
    def rules(self) -> str:
        """Names the rules by which words are taken, those of the site's own parameters included."""
        if not self._rules or self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._steps.clear()
            found = hashlib.blake2b(f"{RULES}".encode(), digest_size=16)
            for kind in self._registry.definitions.resource_types:
                for one in self._registry.all_of(kind):
                    if one.type == "token" and not one.derived:
                        found.update(f"\n{one.number} {one.resource_type} {one.expression}".encode())
            self._rules = found.hexdigest()
        return self._rules

    def of(self, resource: dict[str, Any]) -> Words:
        """The words of a valid resource."""
        narrative: list[str] = []
        content: list[str] = []
        for text in _narratives(resource):
            narrative += (*words(text), GAP)
        for text in _leaves(resource):
            content += (*words(text), GAP)
        kind = resource["resourceType"]
        steps = self._steps.get(kind)
        if steps is None:
            steps = self._steps[kind] = [step for one in self._registry.all_of(kind) for step in named_values(one)]
        wording = [
            word
            for roots, texts in steps
            if roots is None or not roots.isdisjoint(resource)
            for mark, text in texts(resource)
            for word in (mark, *words(text))
        ]
        return Words(" ".join(narrative), " ".join((*narrative, *content)), " ".join(wording))


def named_values(
    parameter: Parameter,
) -> list[tuple[frozenset[str] | None, Callable[[dict[str, Any]], Iterator[tuple[str, str]]]]]:
    """What gives the texts of a token parameter with its marker, and the members without which there are none; [] where it has no texts."""
    if parameter.type != "token" or parameter.derived:
        return []
    mark = marker(parameter.number)
    return [
        (path.roots, _named(path.type, path.values, mark))
        for path in typed_paths(parameter.expression, parameter.resource_type)
        if path.type is None or path.type in _NAMED
    ]


def _named(
    kind: str | None, values: Callable[[dict[str, Any]], list[Any]], mark: str
) -> Callable[[dict[str, Any]], Iterator[tuple[str, str]]]:
    def texts(resource: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for value in values(resource):
            its_kind, raw = (kind, value) if kind is not None else (value.type, value.value)
            if its_kind in _NAMED and isinstance(raw, dict):
                yield from ((mark, text) for text in _texts(its_kind, raw))

    return texts


def _texts(kind: str, value: dict[str, Any]) -> Iterator[str]:
    """CodeableConcept.text and Coding.display; of an Identifier those of its type."""
    if kind == "Identifier":
        value = value.get("type") or {}
    if kind != "Coding" and value.get("text"):
        yield value["text"]
    codings = [value] if kind == "Coding" else value.get("coding") or ()
    yield from (coding["display"] for coding in codings if coding and coding.get("display"))


def _narratives(resource: dict[str, Any]) -> Iterator[str]:
    text = resource.get("text")
    if isinstance(text, dict) and isinstance(text.get("div"), str):
        yield html.unescape(_MARKUP.sub(" ", text["div"]))


def _leaves(node: Any, own: bool = True) -> Iterator[str]:
    """All values of a resource as texts, but for its metadata and the markup of narratives; `own`: `node` is a resource."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "div" and isinstance(value, str):
                if not own and "status" in node:
                    continue  # the narrative, which has a place of its own
                yield html.unescape(_MARKUP.sub(" ", value))
            elif not (own and name in _NOT_CONTENT):
                if name == "contained" and own:
                    for inner in value:
                        yield from _narratives(inner)
                        yield from _leaves(inner)
                else:
                    yield from _leaves(value, False)
    elif isinstance(node, list):
        for one in node:
            yield from _leaves(one, False)
    elif isinstance(node, str):
        if len(node) <= BLOB or " " in node[:BLOB]:
            yield node
    elif node is not None and not isinstance(node, bool):
        yield str(node)
