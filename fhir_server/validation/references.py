"""References: their forms, the types that they may point to, and that `#id` points to something inside the resource.

Specification: https://hl7.org/fhir/R4/references.html, invariants ref-1, dom-2, dom-3, dom-4, dom-5
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fhir_server.model.references import CORE, parse_reference
from fhir_server.validation.primitives import uri_fault
from fhir_server.validation.report import Fragment, Path, Report, shown

ANY = "Resource"


def _listed(targets: frozenset[str]) -> str:
    return " | ".join(sorted(targets))


def target_types(targets: tuple[str, ...], resource_types: frozenset[str]) -> frozenset[str]:
    """The resource types that a Reference with these targets may point to ('Resource' or none: all)."""
    return resource_types if not targets or ANY in targets else frozenset(targets) & resource_types


def reference_test(
    targets: frozenset[str], any_type: bool, resource_types: frozenset[str]
) -> tuple[Callable[[str], Any], Callable[[Any, dict[str, Any], Path, Report], None]]:
    """(quick predicate, exact check) of `Reference.reference` for an element that may point to `targets`."""
    alternatives = "|".join(sorted(targets))
    quick = re.compile(rf"(?:{alternatives})/[A-Za-z0-9\-.]{{1,64}}(?:/_history/[A-Za-z0-9\-.]{{1,64}})?\Z").match

    def test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
        place = (path, "reference", -1)
        if type(value) is not str:
            report.wrong_kind(place, value, "a string")
        elif not value:
            report.empty(place, "the value", "值")
        elif fault := uri_fault(value):
            report.malformed(place, value, "reference", fault)
        else:
            found = parse_reference(value)
            if found.form == "fragment":
                report.fragments.append(Fragment(found.id, place, targets, report.holder))
            elif _report_form(found.form, value, place, report) and found.type and found.type not in targets:
                if found.form == "absolute" and found.type not in resource_types:
                    return  # some URL that only looks like Type/id
                _report_target(value, found.type, targets, any_type, place, report)

    return quick, test


def _report_form(form: str, value: str, path: Path, report: Report) -> bool:
    """Whether the form of a reference is permitted; reports it where it is not."""
    if form == "conditional" and not report.conditional:
        english = f"{shown(value)} is a conditional reference; it is only allowed in entries of a transaction or batch Bundle"
        report.add(
            "value", path, english, f"{shown(value)} 是条件引用，仅允许出现在 transaction 或 batch Bundle 的条目中", rule="reference"
        )
    elif form == "other" and not _ABSOLUTE.match(value):
        english = f"{shown(value)} is not a reference: it must be Type/id, an absolute URL, a URN or #id"
        report.add("value", path, english, f"{shown(value)} 不是合法引用：必须是 类型/id、绝对 URL、URN 或 #id", rule="reference")
        return False
    return True


def _report_target(value: str, kind: str, targets: frozenset[str], any_type: bool, path: Path, report: Report) -> None:
    only = _allowed(targets, any_type)
    english = f"{shown(value)} points to {kind}, but only {only} is permitted here"
    report.add("value", path, english, f"{shown(value)} 指向 {kind}，此处只允许 {only}", rule="target-type")


_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S")
_RESOURCE_NAME = re.compile(r"[A-Z][A-Za-z]+\Z")


def _allowed(targets: frozenset[str], any_type: bool) -> str:
    return "a resource type of R4" if any_type else _listed(targets)


def type_test(targets: frozenset[str], any_type: bool) -> Callable[[Any, dict[str, Any], Path, Report], None]:
    """The check of `Reference.type`: one of the permitted types (other URIs name logical models and pass)."""

    def test(value: Any, holder: dict[str, Any], path: Path, report: Report) -> None:
        place = (path, "type", -1)
        if type(value) is not str:
            report.wrong_kind(place, value, "a string")
            return
        if fault := uri_fault(value):
            report.malformed(place, value, "uri", fault)
            return
        name = value.removeprefix(CORE)
        if not _RESOURCE_NAME.match(name):
            return
        if name not in targets:
            only = _allowed(targets, any_type)
            report.add(
                "value",
                place,
                f"{shown(value)} is not permitted here, only {only}",
                f"此处不允许 {shown(value)}，只允许 {only}",
                rule="target-type",
            )
        reference = holder.get("reference")
        kind = parse_reference(reference).type if isinstance(reference, str) else ""
        if kind in targets and kind != name:
            english = f"the reference {shown(reference)} points to {kind}, but type says {shown(value)}"
            report.add("value", place, english, f"引用 {shown(reference)} 指向 {kind}，但 type 写的是 {shown(value)}", rule="target-type")

    return test


def check_contained(resource: dict[str, Any], path: Path, report: Report) -> None:
    """Rules between a resource, its contained resources and the `#id` values found in it."""
    contained = resource.get("contained")
    inner = [c for c in contained if isinstance(c, dict)] if isinstance(contained, list) else []
    kinds: dict[str, Any] = {}
    for index, one in enumerate(inner):
        _check_one_contained(one, (path, "contained", index), kinds, report)
    for fragment in report.fragments:
        if fragment.targets is None or not fragment.id:
            continue
        if fragment.id not in kinds:
            if not report.pieces:
                report.broken(
                    fragment.path,
                    "ref-1",
                    f"'#{fragment.id}' points to no contained resource",
                    f"“#{fragment.id}” 没有对应的 contained 资源",
                )
        elif isinstance(kinds[fragment.id], str) and kinds[fragment.id] not in fragment.targets:
            kind, only = kinds[fragment.id], _listed(fragment.targets)
            english = f"'#{fragment.id}' points to {kind}, but only {only} is permitted here"
            report.add("value", fragment.path, english, f"“#{fragment.id}” 指向 {kind}，此处只允许 {only}", rule="target-type")
    used = {fragment.id for fragment in report.fragments}
    to_container = {fragment.holder for fragment in report.fragments if not fragment.id}
    for index, one in enumerate(inner):
        id = one.get("id")
        if not (isinstance(id, str) and id in used) and index not in to_container:
            report.broken(
                (path, "contained", index),
                "dom-3",
                f"the contained resource {shown(id)} is not referenced from elsewhere in the resource",
                f"contained 资源 {shown(id)} 未被引用",
            )


def _check_one_contained(one: dict[str, Any], path: Path, kinds: dict[str, Any], report: Report) -> None:
    id = one.get("id")
    if isinstance(id, str):
        if id in kinds:
            report.add(
                "duplicate",
                path,
                f"two contained resources have the id '{id}'",
                f"两个 contained 资源的 id 都是“{id}”",
                rule="contained-id",
            )
        kinds[id] = one.get("resourceType")
    if "contained" in one:
        report.broken((path, "contained", -1), "dom-2", "a contained resource must not contain resources", "contained 资源不得再包含资源")
    meta = one.get("meta")
    if isinstance(meta, dict):
        for name in ("versionId", "lastUpdated"):
            if name in meta:
                place = ((path, "meta", -1), name, -1)
                report.broken(place, "dom-4", f"a contained resource must not have meta.{name}", f"contained 资源不得有 meta.{name}")
        if "security" in meta:
            place = ((path, "meta", -1), "security", -1)
            report.broken(place, "dom-5", "a contained resource must not have a security label", "contained 资源不得有安全标签")
