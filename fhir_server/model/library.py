"""Conformance resources by canonical, several versions of each side by side.

Specification: https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from fhir_server.model.references import split_canonical

Resource = Mapping[str, Any]


class Library:
    """What was added, by `url` and `version`. Without a version the highest is meant; '1.2' means the highest of 1.2.x."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._versions: dict[str, dict[str, Resource]] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Add a resource that has a canonical; others are passed over. One of the same url and version takes the place of the first."""
        url = resource.get("url")
        if isinstance(url, str) and url:
            self._versions.setdefault(url, {})[str(resource.get("version", ""))] = resource

    def find(self, canonical: str) -> Resource | None:
        """The resource of a canonical (`url`, `url|version`, a `#part` is passed over), or None."""
        url, wanted, _ = split_canonical(canonical)
        versions = self._versions.get(url, {})
        version = chosen(versions, wanted)
        return None if version is None else versions[version]

    def __iter__(self) -> Iterator[Resource]:
        for versions in self._versions.values():
            yield from versions.values()

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))


def chosen(versions: Collection[str], wanted: str) -> str | None:
    """Which of some versions a canonical means: the one that it names, else the highest that fits; None where none does."""
    fitting = [one for one in versions if not wanted or one.startswith(wanted + ".")]
    return wanted if wanted in versions else max(fitting, key=order, default=None)


def order(version: str) -> tuple[tuple[int, int, str], ...]:
    """The place of a version among others: numbers by their value, a pre-release ('1.0.0-ballot') before its release.

    Source: https://semver.org/#spec-item-11
    """
    release, _, label = version.partition("+")[0].partition("-")
    parts = [_part(one) for one in release.split(".")]
    parts.append((0, 0, "") if label else (1, 0, ""))
    return (*parts, *(_part(one) for one in re.split(r"[.-]", label) if label))


def _part(text: str) -> tuple[int, int, str]:
    return (1, int(text), "") if text.isascii() and text.isdigit() and len(text) < 20 else (0, 0, text)
