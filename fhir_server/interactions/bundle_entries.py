"""A batch or transaction Bundle taken apart: its envelope checked, each entry a request of its own.

Specification: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/bundle.html
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fhir_server.errors import FhirError, Issue
from fhir_server.interactions.context import Context
from fhir_server.interactions.headers import http_date
from fhir_server.interactions.http import Request
from fhir_server.interactions.route import Route, route
from fhir_server.validation import structure

MAX_ISSUES = 500
"""Most issues that one answer lists; the rest is counted."""
_PHASE = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_SLICE = 250
"""Entries between two chances for others on the event loop."""
_USUAL = frozenset({"fullUrl", "resource", "request"})
_ANY = {"resourceType": "Parameters"}
"""Stands for a resource that is checked on its own: nothing is required of it."""
_USUAL_URL = re.compile(r"[A-Za-z0-9/?=&|:.$_%~-]{1,300}", re.ASCII)
_USUAL_FULL_URL = re.compile(r"urn:uuid:[0-9a-f-]{36}|https?://[A-Za-z0-9.:-]+/(?:[a-z0-9]+/)*[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}", re.ASCII)
_INDEX = re.compile(r"Bundle\.entry\[(\d+)\]")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CARRIES = frozenset({"create", "update", "patch"})
_WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(slots=True)
class Entry:
    """One entry that is a readable request. `phase`: 0 DELETE, 1 POST, 2 PUT and PATCH, 3 GET and HEAD, as they are processed."""

    index: int
    request: Request
    route: Route
    full_url: str
    phase: int

    @property
    def name(self) -> str:
        return f"Bundle.entry[{self.index}]"

    @property
    def writes(self) -> bool:
        return self.route.interaction in _WRITES


async def take_apart(context: Context, outer: Request, bundle: dict[str, Any]) -> tuple[list[Entry], dict[int, FhirError]]:
    """The entries of a Bundle whose envelope is right, and the errors of the others by entry index.

    Resources inside entries are not validated here. Raises FhirError 400 or 422 for faults of the Bundle itself.
    """
    errors = await _envelope_errors(bundle)
    headers = _shared_headers(outer)
    entries: list[Entry] = []
    transaction = bundle.get("type") == "transaction"
    for index, content in enumerate(bundle.get("entry") or ()):
        if index % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        if index in errors:
            continue
        try:
            entries.append(_entry(context, outer, headers, index, content, transaction))
        except FhirError as error:
            errors[index] = within_entry(error, index, (content.get("resource") or {}).get("resourceType"))
    return entries, errors


def _shared_headers(outer: Request) -> dict[str, str]:
    """What the entries inherit of the outer request. Without a wish, entries answer without bodies (`return=minimal`)."""
    prefer = outer.headers.get("prefer", "")
    if "return=" not in prefer.replace(" ", ""):
        prefer = f"{prefer}, return=minimal" if prefer else "return=minimal"
    headers = {"prefer": prefer}
    if "accept-language" in outer.headers:
        headers["accept-language"] = outer.headers["accept-language"]
    return headers


def _entry(context: Context, outer: Request, headers: dict[str, str], index: int, content: dict[str, Any], transaction: bool) -> Entry:
    asked = content["request"]
    method, url = asked["method"], asked["url"]
    path, query = _address(url, outer.base)
    found = route(method, path, context.types)
    if found.interaction in ("batch", "openapi", "options", "async-status"):
        raise FhirError.of(
            400,
            "not-supported",
            f"{method} '{url}' cannot be an entry of a Bundle",
            "Bundle.request.url",
            zh=f"{method} “{url}”不能作为 Bundle 的条目",
        )
    resource = content.get("resource")
    if found.interaction in _CARRIES and resource is None:
        raise FhirError.of(400, "required", f"{method} '{url}' needs a resource", "Bundle.resource", zh=f"{method} “{url}”需要一个资源")
    if len(asked) > 2:
        headers = _own_headers(headers, asked, found)
    request = Request(method, path, query, headers, b"", outer.base, outer.principal, resource, True, transaction)
    return Entry(index, request, found, content.get("fullUrl", ""), _PHASE[method] if found.interaction in _WRITES else 3)


def _address(url: str, base: str) -> tuple[str, str]:
    """Path below the base and query. An absolute URL must be one of this server."""
    if _ABSOLUTE.match(url):
        if not (base and url.startswith(base + "/")):
            raise FhirError.of(
                400,
                "value",
                f"'{url}' is not an address of this server ({base})",
                "Bundle.request.url",
                zh=f"“{url}”不是本服务器（{base}）的地址",
            )
        url = url[len(base) + 1 :]
    path, _, query = url.lstrip("/").partition("?")
    return path, query


def _own_headers(shared: dict[str, str], asked: dict[str, Any], found: Route) -> dict[str, str]:
    headers = dict(shared)
    if "ifMatch" in asked:
        headers["if-match"] = asked["ifMatch"]
    if "ifNoneMatch" in asked:
        headers["if-none-match"] = asked["ifNoneMatch"]
    if "ifModifiedSince" in asked:
        moment = datetime.fromisoformat(asked["ifModifiedSince"])
        headers["if-modified-since"] = http_date(int(moment.timestamp() * 1000))
    if "ifNoneExist" in asked:
        headers["if-none-exist"] = asked["ifNoneExist"].removeprefix(found.type + "?").removeprefix("?")
    return headers


async def _envelope_errors(bundle: dict[str, Any]) -> dict[int, FhirError]:
    """Faults of the Bundle without its resources, those of single entries by index.

    Raises FhirError 400 or 422 where the Bundle as such is at fault.
    """
    entries = bundle.get("entry")
    if entries is not None and not isinstance(entries, list):
        raise FhirError.of(400, "structure", "Bundle.entry must be an array", "Bundle.entry", zh="Bundle.entry 必须是数组")
    faults: dict[int, list[Issue]] = {}
    for issue in _envelope_issues(bundle, entries or []):
        if issue is None:
            await asyncio.sleep(0)
        elif issue.severity in ("error", "fatal"):
            faults.setdefault(_entry_of(issue), []).append(issue)
    for index, entry in enumerate(entries or ()):
        if isinstance(entry, dict):
            _check_parts(faults, index, entry)
    if -1 in faults:
        issues = [issue for _, found in sorted(faults.items()) for issue in found]
        raise FhirError(_status_of(issues), issues[:MAX_ISSUES])
    return {index: FhirError(_status_of(issues), issues) for index, issues in faults.items()}


def _envelope_issues(bundle: dict[str, Any], entries: list[Any]) -> Iterator[Issue | None]:
    """The issues of a Bundle without its resources, slice by slice; None between two slices."""
    rest = {name: value for name, value in bundle.items() if name != "entry"}
    if "entry" in bundle and not entries:
        rest["entry"] = entries
    yield from structure.validate(rest)
    for start in range(0, len(entries), _SLICE):
        part = entries[start : start + _SLICE]
        if not all(map(_plainly_right, part)):
            hollow = [{**e, "resource": _ANY} if isinstance(e, dict) and "resource" in e else e for e in part]
            for issue in structure.validate({"resourceType": "Bundle", "type": bundle.get("type"), "entry": hollow}):
                if _entry_of(issue) >= 0:
                    yield _shifted(issue, start)
        yield None


def _plainly_right(entry: Any) -> bool:
    """Whether an entry has nothing but the usual elements in their usual form, so that its envelope needs no closer look."""
    if type(entry) is not dict or not entry.keys() <= _USUAL:
        return False
    request, full_url = entry.get("request"), entry.get("fullUrl")
    if type(request) is not dict or len(request) != 2:
        return False
    url = request.get("url")
    if request.get("method") not in _PHASE or type(url) is not str or not _USUAL_URL.fullmatch(url):
        return False
    return full_url is None or (type(full_url) is str and _USUAL_FULL_URL.fullmatch(full_url) is not None)


def _shifted(issue: Issue, start: int) -> Issue:
    """The issue of a slice with the indexes of the whole."""
    if not start:
        return issue

    def shift(text: str) -> str:
        return _INDEX.sub(lambda found: f"Bundle.entry[{int(found.group(1)) + start}]", text)

    return replace(issue, diagnostics=shift(issue.diagnostics), expression=tuple(map(shift, issue.expression)))


def _check_parts(faults: dict[int, list[Issue]], index: int, entry: dict[str, Any]) -> None:
    resource = entry.get("resource")
    if "resource" in entry and not (isinstance(resource, dict) and isinstance(resource.get("resourceType"), str)):
        name = f"Bundle.entry[{index}].resource"
        faults.setdefault(index, []).append(
            Issue(
                "structure",
                f"{name} must be an object with a resourceType",
                (name,),
                syntax=True,
                zh=f"{name} 必须是带有 resourceType 的对象",
            )
        )


def _entry_of(issue: Issue) -> int:
    """The index of the entry that an issue's expression names; -1 for the Bundle itself."""
    where = issue.expression[0] if issue.expression else ""
    if not where.startswith("Bundle.entry["):
        return -1
    number = where[len("Bundle.entry[") :].partition("]")[0]
    return int(number) if number.isdigit() else -1


def _status_of(issues: Iterable[Issue]) -> int:
    return 400 if any(issue.syntax for issue in issues) else 422


def within_entry(error: FhirError, index: int, resource_type: str | None = None) -> FhirError:
    """The error with its expressions as seen from the Bundle: `Patient.gender` becomes `Bundle.entry[3].resource.gender`.

    `Bundle.x` stands for an element of the entry itself. An issue without expression names the entry; all name it in their text.
    """
    name = f"Bundle.entry[{index}]"
    issues = [
        replace(
            issue,
            diagnostics=issue.diagnostics if name in issue.diagnostics else f"{name}: {issue.diagnostics}",
            expression=tuple(_lifted(expression, name, resource_type) for expression in issue.expression) or (name,),
            zh=issue.zh if not issue.zh or name in issue.zh else f"{name}：{issue.zh}",
        )
        for issue in error.issues
    ]
    return FhirError(error.status, issues, list(error.headers))


def _lifted(expression: str, name: str, resource_type: str | None) -> str:
    if expression.startswith("Bundle.entry["):
        return expression
    head, dot, rest = expression.partition(".")
    if head == resource_type or head.partition("[")[0] == resource_type:
        return f"{name}.resource{dot}{rest}"
    if head == "Bundle":
        return f"{name}{dot}{rest}"
    return f"{name}.resource.{expression}" if resource_type else name


def joined(errors: dict[int, FhirError]) -> FhirError:
    """One error out of those of several entries, in their order; readable-but-wrong content yields to unreadable (400 before 422)."""
    ordered = [errors[index] for index in sorted(errors)]
    issues = [issue for error in ordered for issue in error.issues]
    other = [error for error in ordered if error.status not in (400, 422)]
    status = other[0].status if other else min(error.status for error in ordered)
    if len(issues) > MAX_ISSUES:
        issues = [
            *issues[:MAX_ISSUES],
            Issue(
                "too-long",
                f"{len(issues) - MAX_ISSUES} more issues are not listed",
                severity="information",
                zh=f"另有 {len(issues) - MAX_ISSUES} 个问题未列出",
            ),
        ]
    headers = ordered[0].headers if len(ordered) == 1 else []
    return FhirError(status, issues, list(headers))
