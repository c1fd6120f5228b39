"""Collects what a validation finds: issues in English and Chinese with FHIRPath expressions, up to a limit.

Specification: https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/valueset-issue-type.html
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from fhir_server.errors import Issue

MAX_ISSUES = 100
"""More errors than this are not listed one by one, nor more warnings; warnings never keep an error from being found."""

Path = tuple[Any, str, int]
"""Where a check stands: (path of the parent or None, element name, index or -1). Cheap to make, rendered only for an issue."""


class Enough(Exception):
    """The limit of errors is reached; ends the validation."""


def expression(path: Path | None) -> str:
    """The FHIRPath expression of a path, such as `Patient.contact[0].gender`."""
    parts: list[str] = []
    while path is not None:
        path, name, index = path
        parts.append(name if index < 0 else f"{name}[{index}]")
    return ".".join(reversed(parts))


def shown(value: Any) -> str:
    """A value as it may stand in a message: short, and with its JSON kind recognizable."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)[:80]
    text = value if len(value) <= 80 else value[:77] + "..."
    return "'" + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + "'"


_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _identifier(name: str) -> str:
    """A name as a FHIRPath identifier: delimited where it is no plain one (https://hl7.org/fhirpath/N1/#identifiers)."""
    if _PLAIN_NAME.match(name):
        return name
    shown_name = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in name.replace("\\", "\\\\").replace("`", "\\`"))
    return f"`{shown_name}`"


_KIND_ZH = {"a string": "字符串", "a number": "数字", "a boolean": "布尔值", "an object": "对象", "an array": "数组"}


class Fragment:
    """A reference to something inside the same resource: `#id` as found at `path`.

    `targets` are the resource types allowed there, None where the value is a uri (which counts as use, but need not resolve);
    `holder` is the index of the contained resource that holds it, -1 for the container itself.
    """

    __slots__ = ("holder", "id", "path", "targets")

    def __init__(self, id: str, path: Path, targets: frozenset[str] | None, holder: int) -> None:
        self.id, self.path, self.targets, self.holder = id, path, targets, holder


class Report:
    """The state of one validation. `fragments` belong to the resource being checked; `conditional` allows `Type?criteria` references.

    `pieces`: the content holds pieces of another resource, to whose contained ones `#id` may point.
    """

    __slots__ = ("_errors", "_said", "conditional", "fragments", "holder", "issues", "pieces")

    def __init__(self, conditional: bool = False, pieces: bool = False) -> None:
        self.issues: list[Issue] = []
        self._errors = 0
        self._said: set[tuple[str, str, str]] = set()
        self.fragments: list[Fragment] = []
        self.holder = -1
        self.conditional = conditional
        self.pieces = pieces

    def add(
        self, code: str, path: Path, english: str, chinese: str, *,
        rule: str, syntax: bool = False, severity: str = "error", profile: str = "",
    ) -> None:  # fmt: skip
        """One issue; both texts get the element's expression in front. `rule` and `profile`: see `Issue`."""
        refusing = severity == "error"
        if not refusing and len(self.issues) - self._errors >= MAX_ISSUES:
            return
        where = expression(path)
        said = (where, english, profile)
        if said in self._said:
            return
        self._said.add(said)
        self.issues.append(Issue(code, f"{where}: {english}", (where,), severity, f"{where}：{chinese}", syntax, rule, profile))
        self._errors += refusing
        if self._errors >= MAX_ISSUES:
            raise Enough

    def unknown_element(self, path: Path, name: str, known: Any) -> None:
        near = get_close_matches(name, list(known), n=1) if len(name) <= 64 else []
        hint, hint_zh = (f"; did you mean '{near[0]}'?", f"，是否应为“{near[0]}”？") if near else ("", "")
        shown_name = shown(name)
        self.add(
            "structure",
            (path, _identifier(name[:80]), -1),
            f"unknown element {shown_name}{hint}",
            f"未知元素 {shown_name}{hint_zh}",
            syntax=True,
            rule="element",
        )

    def wrong_kind(self, path: Path, value: Any, due: str) -> None:
        """The JSON kind is not `due` ('a string', 'a number', 'a boolean', 'an object', 'an array')."""
        if due == "an array":
            self.add(
                "structure",
                path,
                f"the element may repeat, so it must be an array, not {shown(value)}",
                "该元素可重复，必须是数组",
                syntax=True,
                rule="json",
            )
        elif isinstance(value, list):
            self.add(
                "structure",
                path,
                f"the element may not repeat, so it must be {due}, not an array",
                f"该元素不可重复，必须是{_KIND_ZH[due]}而不是数组",
                syntax=True,
                rule="json",
            )
        elif value is None:
            self.add(
                "structure", path, f"null is not allowed here; it must be {due} or absent", "此处不允许 null", syntax=True, rule="json"
            )
        else:
            self.add(
                "structure",
                path,
                f"must be {due}, not {shown(value)}",
                f"必须是{_KIND_ZH[due]}，而不是 {shown(value)}",
                syntax=True,
                rule="json",
            )

    def no_array(self, path: Path, value: Any) -> None:
        """An element that may repeat is no array, or one without items."""
        if isinstance(value, list):
            self.empty(path, "the array", "数组")
        else:
            self.wrong_kind(path, value, "an array")

    def malformed(self, path: Path, value: Any, type_name: str, why: tuple[str, str]) -> None:
        """A primitive whose text is not one of its type."""
        english = f"{shown(value)} is not a valid {type_name}: it {why[0]}"
        self.add("value", path, english, f"{shown(value)} 不是有效的 {type_name}：{why[1]}", syntax=True, rule="format")

    def empty(self, path: Path, what: str, what_zh: str) -> None:
        self.add(
            "structure",
            path,
            f"{what} is empty; an element must have a value or children (ele-1)",
            f"{what_zh}为空，元素必须有值或子元素",
            syntax=True,
            rule="ele-1",
        )

    def missing(self, path: Path, name: str) -> None:
        self.add("required", (path, name, -1), "the element is required (minimum 1), but it is missing", "必填元素缺失", rule="cardinality")

    def broken(self, path: Path, key: str, english: str, chinese: str, *, severity: str = "error") -> None:
        """A rule of the specification, named by its key, is broken."""
        self.add("invariant", path, f"{english} ({key})", f"{chinese}（{key}）", severity=severity, rule=key)
