"""The rules of a Bundle as a whole.

Specification: https://hl7.org/fhir/R4/bundle.html#invs (bdl-1 to bdl-12)
"""

from __future__ import annotations

from typing import Any

from fhir_server.validation.report import Path, Report, shown

_REQUESTS = frozenset({"batch", "transaction", "history"})
_RESPONSES = frozenset({"batch-response", "transaction-response", "history"})


def check_bundle(bundle: dict[str, Any], path: Path, report: Report) -> None:
    """All bdl invariants of one Bundle. Without a type (which is told elsewhere) those that depend on it say nothing."""
    kind = bundle.get("type")
    kind = kind if isinstance(kind, str) else None
    if "total" in bundle and kind and kind not in ("searchset", "history"):
        english = f"total is only allowed in a searchset or history, not in a {kind}"
        report.broken((path, "total", -1), "bdl-1", english, "total 只允许出现在 searchset 或 history 中")
    entries = bundle.get("entry")
    entries = entries if isinstance(entries, list) else []
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            _check_entry(entry, kind, (path, "entry", index), report)
    if kind != "history":
        _check_unique(entries, path, report)
    if kind == "document":
        _check_document(bundle, path, report)
    if kind in ("document", "message"):
        _check_first(entries, kind, path, report)


def _check_entry(entry: dict[str, Any], kind: str | None, path: Path, report: Report) -> None:
    if "search" in entry and kind and kind != "searchset":
        report.broken(
            (path, "search", -1), "bdl-2", f"search is only allowed in a searchset, not in a {kind}", "search 只允许出现在 searchset 中"
        )
    for name, kinds, key in (("request", _REQUESTS, "bdl-3"), ("response", _RESPONSES, "bdl-4")):
        if kind and (name in entry) != (kind in kinds):
            rule, rule_zh = ("needs", "必须有") if kind in kinds else ("must not have", "不得有")
            report.broken((path, name, -1), key, f"an entry of a {kind} {rule} a {name}", f"{kind} 的条目{rule_zh} {name}")
    if not ("resource" in entry or "request" in entry or "response" in entry):
        report.broken(path, "bdl-5", "an entry must have a resource, a request or a response", "条目必须有 resource、request 或 response")
    full = entry.get("fullUrl")
    if not isinstance(full, str):
        return
    if "/_history/" in full:
        report.broken(
            (path, "fullUrl", -1), "bdl-8", f"fullUrl {shown(full)} must not name a version", f"fullUrl {shown(full)} 不得指向某个版本"
        )


def _check_unique(entries: list[Any], path: Path, report: Report) -> None:
    seen: dict[tuple[Any, Any], int] = {}
    for index, entry in enumerate(entries):
        full = entry.get("fullUrl") if isinstance(entry, dict) else None
        if not isinstance(full, str):
            continue
        resource = entry.get("resource")
        meta = resource.get("meta") if isinstance(resource, dict) else None
        version = meta.get("versionId") if isinstance(meta, dict) else None
        first = seen.setdefault((full, version if isinstance(version, str) else None), index)
        if first != index:
            place = ((path, "entry", index), "fullUrl", -1)
            report.broken(
                place, "bdl-7", f"fullUrl {shown(full)} is also that of entry[{first}]", f"fullUrl {shown(full)} 与 entry[{first}] 重复"
            )


def _check_document(bundle: dict[str, Any], path: Path, report: Report) -> None:
    identifier = bundle.get("identifier")
    if not (isinstance(identifier, dict) and "system" in identifier and "value" in identifier):
        english = "a document must have an identifier with a system and a value"
        report.broken((path, "identifier", -1), "bdl-9", english, "document 必须有带 system 和 value 的 identifier")
    if "timestamp" not in bundle:
        report.broken((path, "timestamp", -1), "bdl-10", "a document must have a timestamp", "document 必须有 timestamp")


def _check_first(entries: list[Any], kind: str, path: Path, report: Report) -> None:
    due, key = ("Composition", "bdl-11") if kind == "document" else ("MessageHeader", "bdl-12")
    first = entries[0].get("resource") if entries and isinstance(entries[0], dict) else None
    if not (isinstance(first, dict) and first.get("resourceType") == due):
        report.broken(
            ((path, "entry", 0), "resource", -1), key, f"the first resource of a {kind} must be a {due}", f"{kind} 的首个资源必须是 {due}"
        )
