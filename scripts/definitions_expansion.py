"""Expands value sets whose codes the package itself enumerates."""

from __future__ import annotations

from typing import Any

Resource = dict[str, Any]


class NotEnumerable(Exception):
    """The value set draws on a code system that is not in the package, or on a filter that enumerates nothing."""


class Expander:
    def __init__(self, resources: list[Resource]) -> None:
        self.systems = {r["url"]: r for r in resources if r["resourceType"] == "CodeSystem"}
        self.sets = {r["url"]: r for r in resources if r["resourceType"] == "ValueSet"}

    def expand(self, canonical: str, seen: frozenset[str] = frozenset()) -> set[tuple[str, str]]:
        url = canonical.split("|", maxsplit=1)[0]
        if url in seen or url not in self.sets:
            raise NotEnumerable(url)
        compose = self.sets[url].get("compose")
        if not compose:
            raise NotEnumerable(url)
        found: set[tuple[str, str]] = set()
        for include in compose.get("include", ()):
            found |= self._include(include, seen | {url})
        for exclude in compose.get("exclude", ()):
            found -= self._include(exclude, seen | {url})
        return found

    def _include(self, include: Resource, seen: frozenset[str]) -> set[tuple[str, str]]:
        sets = [self.expand(inner, seen) for inner in include.get("valueSet", ())]
        if system := include.get("system"):
            if "concept" in include:
                sets.append({(system, c["code"]) for c in include["concept"]})
            else:
                sets.append({(system, code) for code in self._codes(system, include.get("filter", ()))})
        if not sets:
            raise NotEnumerable("empty include")
        return set.intersection(*sets)

    def _codes(self, system: str, filters: Any) -> set[str]:
        definition = self.systems.get(system)
        if definition is None or definition.get("content") != "complete":
            raise NotEnumerable(system)
        codes: dict[str, Resource] = {}
        parents: dict[str, set[str]] = {}

        def walk(concepts: list[Resource], above: tuple[str, ...]) -> None:
            for concept in concepts:
                codes[concept["code"]] = concept
                parents.setdefault(concept["code"], set()).update(above[-1:])
                for prop in concept.get("property", ()):
                    if prop["code"] in ("subsumedBy", "parent") and "valueCode" in prop:
                        parents[concept["code"]].add(prop["valueCode"])
                walk(concept.get("concept", []), (*above, concept["code"]))

        walk(definition.get("concept", []), ())

        def ancestors(code: str) -> set[str]:
            found, queue = set(), [code]
            while queue:
                for p in parents.get(queue.pop(), ()):
                    if p not in found:
                        found.add(p)
                        queue.append(p)
            return found

        chosen = set(codes)
        for f in filters:
            if f["op"] == "is-a" and f["property"] == "concept":
                chosen = {c for c in chosen if c == f["value"] or f["value"] in ancestors(c)}
            elif f["op"] == "descendent-of" and f["property"] == "concept":
                chosen = {c for c in chosen if f["value"] in ancestors(c)}
            elif f["op"] == "is-not-a" and f["property"] == "concept":
                chosen = {c for c in chosen if c != f["value"] and f["value"] not in ancestors(c)}
            else:
                raise NotEnumerable(str(f))
        # v3 marks grouping concepts that are not codes for data
        return {c for c in chosen if not any(p["code"] == "notSelectable" and p.get("valueBoolean") for p in codes[c].get("property", ()))}
