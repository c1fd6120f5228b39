"""Rules about a resource as a whole: contained resources (dom-2 to dom-5), fragment references (ref-1), Bundles (bdl-1 to bdl-9).

Specification: https://hl7.org/fhir/R4/domainresource.html#invs, https://hl7.org/fhir/R4/bundle.html#invs
"""

from __future__ import annotations

from typing import Any

from fhir_server.validation.faults import Fault, Faults, under

_REQUESTS = ("batch", "transaction", "history")
_RESPONSES = ("batch-response", "transaction-response", "history")


def of_resource(resource: dict[str, Any]) -> Faults:
    """The faults of one resource against these rules; those of resources inside it too."""
    faults: Faults = []
    contained = resource.get("contained")
    if isinstance(contained, list):
        faults += _contained(resource, contained)
    elif _fragments(resource):
        faults += _dangling(resource, set())
    kind = resource.get("resourceType")
    if kind == "Bundle":
        faults += _bundle(resource)
    elif kind == "Parameters":
        faults += _parameters(resource.get("parameter"), "parameter")
    return faults


def _fragments(value: Any) -> list[str]:
    """All local references (#id) below a value."""
    found: list[str] = []
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            for name, inner in current.items():
                if name == "reference" and isinstance(inner, str) and inner.startswith("#"):
                    found.append(inner)
                elif isinstance(inner, dict | list) and name != "entry":
                    stack.append(inner)
        elif isinstance(current, list):
            stack.extend(current)
    return found


def _links(value: Any) -> set[str]:
    """All texts below a value that begin with '#': references, canonicals and uris may point to contained resources."""
    found: set[str] = set()
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, str):
            if current.startswith("#"):
                found.add(current)
        elif isinstance(current, dict):
            stack.extend(inner for name, inner in current.items() if name != "div")
        elif isinstance(current, list):
            stack.extend(current)
    return found


def _contained(resource: dict[str, Any], contained: list[Any]) -> Faults:
    faults: Faults = []
    links = _links({name: value for name, value in resource.items() if name != "contained"})
    inside = {one.get("id"): _links(one) for one in contained if isinstance(one, dict)}
    all_links = links.union(*inside.values()) if inside else links
    ids = [one.get("id") for one in contained if isinstance(one, dict)]
    for k, one in enumerate(contained):
        if not isinstance(one, dict):
            continue
        path = f"contained[{k}]"
        if "contained" in one:
            faults.append(
                Fault(
                    f"{path}.contained", "invariant", "must not be nested: a contained resource contains none (dom-2)", None, "不允许嵌套"
                )
            )
        id = one.get("id")
        if not id:
            faults.append(Fault(f"{path}.id", "required", "is missing: a contained resource is found by its id", None, "缺少 id"))
        elif f"#{id}" not in all_links and "#" not in inside.get(id, set()):
            faults.append(Fault(path, "invariant", "must be referred to from elsewhere in the resource (dom-3)", id, "没有被引用"))
        elif ids.count(id) > 1:
            faults.append(Fault(f"{path}.id", "duplicate", "stands twice among the contained resources", id, "id 重复"))
        meta = one.get("meta")
        if isinstance(meta, dict):
            for name in ("versionId", "lastUpdated"):
                if name in meta:
                    faults.append(
                        Fault(f"{path}.meta.{name}", "invariant", "must not stand in a contained resource (dom-4)", None, "不允许")
                    )
            if "security" in meta:
                faults.append(Fault(f"{path}.meta.security", "invariant", "must not stand in a contained resource (dom-5)", None, "不允许"))
    return faults + _dangling(resource, {f"#{id}" for id in ids if id} | {"#"})


def _dangling(resource: dict[str, Any], known: set[str]) -> Faults:
    return [
        Fault("", "invariant", f"refers to {text}, but no resource of this id is contained (ref-1)", text, "引用的内嵌资源不存在")
        for text in dict.fromkeys(_fragments(resource))
        if text not in known
    ]


def _parameters(parameters: Any, path: str) -> Faults:
    faults: Faults = []
    for k, one in enumerate(parameters if isinstance(parameters, list) else ()):
        if not isinstance(one, dict):
            continue
        here = f"{path}[{k}]"
        values = [name for name in one if name.startswith("value")]
        kinds = len(values) + ("resource" in one) + ("part" in one)
        if kinds > 1:
            faults.append(
                Fault(here, "invariant", "must have only one of value[x], resource and part (inv-1)", one.get("name"), "只能有一种内容")
            )
        if isinstance(one.get("resource"), dict):
            faults += under(f"{here}.resource", of_resource(one["resource"]))
        faults += _parameters(one.get("part"), f"{here}.part")
    return faults


def _bundle(bundle: dict[str, Any]) -> Faults:
    kind = bundle.get("type")
    entries = bundle.get("entry")
    faults: Faults = []
    if "total" in bundle and kind not in ("searchset", "history"):
        faults.append(Fault("total", "invariant", "only a searchset or history has a total (bdl-1)", bundle["total"], "不允许 total"))
    seen: set[tuple[str, str]] = set()
    for k, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            faults += under(f"entry[{k}]", _entry(entry, str(kind), seen))
    if kind in ("document", "message") and isinstance(entries, list):
        faults += _led(bundle, entries, str(kind))
    return faults


def _led(bundle: dict[str, Any], entries: list[Any], kind: str) -> Faults:
    faults: Faults = []
    first = entries[0].get("resource") if entries and isinstance(entries[0], dict) else None
    wanted, rule = ("Composition", "bdl-11") if kind == "document" else ("MessageHeader", "bdl-12")
    if not isinstance(first, dict) or first.get("resourceType") != wanted:
        faults.append(
            Fault(
                "entry[0].resource", "invariant", f"must be a {wanted}: a {kind} begins with it ({rule})", None, f"首个资源必须是 {wanted}"
            )
        )
    identifier = bundle.get("identifier")
    if kind == "document":
        if not (isinstance(identifier, dict) and identifier.get("system") and identifier.get("value")):
            faults.append(
                Fault("identifier", "invariant", "a document needs an identifier with system and value (bdl-9)", None, "缺少标识")
            )
        if not bundle.get("timestamp"):
            faults.append(Fault("timestamp", "invariant", "a document needs a date (bdl-10)", None, "缺少时间"))
    return faults


def _entry(entry: dict[str, Any], kind: str, seen: set[tuple[str, str]]) -> Faults:
    faults: Faults = []
    resource, url = entry.get("resource"), entry.get("fullUrl")
    if kind in _REQUESTS and not isinstance(entry.get("request"), dict):
        faults.append(Fault("request", "invariant", f"is missing: an entry of a {kind} needs one (bdl-3)", None, "缺少 request"))
    if kind not in _REQUESTS and "request" in entry:
        faults.append(Fault("request", "invariant", f"must not stand in a {kind} (bdl-3)", None, "不允许 request"))
    if kind in _RESPONSES and kind != "history" and not isinstance(entry.get("response"), dict):
        faults.append(Fault("response", "invariant", f"is missing: an entry of a {kind} needs one (bdl-4)", None, "缺少 response"))
    if kind not in _RESPONSES and "response" in entry:
        faults.append(Fault("response", "invariant", f"must not stand in a {kind} (bdl-4)", None, "不允许 response"))
    if "search" in entry and kind != "searchset":
        faults.append(Fault("search", "invariant", "stands in searchsets only (bdl-2)", None, "不允许 search"))
    if resource is None and "request" not in entry and "response" not in entry:
        faults.append(Fault("", "invariant", "must have a resource, a request or a response (bdl-5)", None, "条目没有内容"))
    if isinstance(url, str):
        if "/_history/" in url:
            faults.append(Fault("fullUrl", "invariant", "must not name a version (bdl-8)", url, "不允许版本地址"))
        meta = resource.get("meta") if isinstance(resource, dict) else None
        version = str(meta.get("versionId", "")) if isinstance(meta, dict) else ""
        if (url, version) in seen and kind != "history":
            faults.append(Fault("fullUrl", "invariant", "stands twice in the Bundle (bdl-7)", url, "fullUrl 重复"))
        seen.add((url, version))
    if isinstance(resource, dict):
        faults += under("resource", of_resource(resource))
    return faults
