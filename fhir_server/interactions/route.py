"""From method and path to an interaction.

Specification: https://hl7.org/fhir/R4/http.html#summary
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from fhir_server.errors import FhirError
from fhir_server.interactions.ids import ID
from fhir_server.search.errors import close_names, shown


class Route(NamedTuple):
    """What a request asks for.

    `interaction`: read, vread, update, patch, delete, create, history, search, capabilities, batch, operation, options, openapi,
    async-status (`id`: the number of an asynchronous request).
    `type` and `id` as far as the path names them ('' = not): a search with `id` is a compartment search of `target` ('*' = all types)
    in the compartment `type`/`id`; an update, patch or delete without `id` is conditional. `operation` is a name without $.
    """

    interaction: str
    type: str = ""
    id: str = ""
    version: str = ""
    operation: str = ""
    target: str = ""


_INSTANCE = {"GET": "read", "HEAD": "read", "PUT": "update", "DELETE": "delete", "PATCH": "patch"}
_TYPE = {"GET": "search", "HEAD": "search", "POST": "create", "PUT": "update", "DELETE": "delete", "PATCH": "patch"}
_BASE = {"GET": "search", "HEAD": "search", "POST": "batch"}
_READ = ("GET", "HEAD")
_SEARCH = ("GET", "HEAD", "POST")
ASYNC_STATUS = "$async-status"
"""Followed by a number: an address that no resource type (a letter first) and no operation (nothing below its name) can have."""


def _not_allowed(method: str, path: str, allowed: tuple[str, ...]) -> FhirError:
    return FhirError.of(
        405,
        "not-supported",
        f"{method} is not supported at [base]/{path}; supported: {', '.join(allowed)}",
        zh=f"[base]/{path} 不支持 {method}；可用：{', '.join(allowed)}",
        headers=[("Allow", ", ".join((*allowed, "OPTIONS")))],
    )


def _no_route(path: str) -> FhirError:
    return FhirError.of(404, "not-found", f"Nothing is served at [base]/{path[:200]}", zh=f"[base]/{path[:200]} 处没有可用的内容")


def _known_type(type: str, types: Collection[str]) -> None:
    if type not in types:
        near, _ = close_names(type, sorted(types))
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "this server knows the resource types of FHIR R4 (4.0.1)"
        hinted = f"是否应为 {' 或 '.join(near)}？" if near else "本服务器支持 FHIR R4（4.0.1）的全部资源类型"
        said = f"Unknown resource type '{shown(type, 80)}'; {hint}"
        raise FhirError.of(404, "not-supported", said, zh=f"未知的资源类型“{shown(type, 80)}”；{hinted}")


def _known_id(id: str) -> None:
    if not ID.fullmatch(id):
        rule = "1 to 64 of A-Z, a-z, 0-9, '-' and '.'"
        zh = f"“{id[:80]}”不是合法的 id：由 1 至 64 个 A-Z、a-z、0-9、- 和 . 组成"
        raise FhirError.of(400, "value", f"'{id[:80]}' is not an id: {rule}", zh=zh)


def _demand(method: str, path: str, allowed: tuple[str, ...]) -> None:
    if method not in allowed and method != "OPTIONS":
        raise _not_allowed(method, path, allowed)


def _below_base(method: str, path: str, types: Collection[str]) -> Route:
    """One segment: a resource type, or a word of the base."""
    if path in types:
        interaction = _TYPE.get(method)
        if interaction is None:
            raise _not_allowed(method, path, tuple(_TYPE))
        return Route(interaction, path)
    if path.startswith("$"):
        return Route("operation", operation=path[1:])
    if path in ("metadata", "openapi.json"):
        _demand(method, path, _READ)
        return Route("capabilities" if path == "metadata" else "openapi")
    if path == "_history":
        _demand(method, path, _READ)
        return Route("history")
    if path == "_search":
        _demand(method, path, _SEARCH)
        return Route("search")
    _known_type(path, types)
    raise _no_route(path)


def _below_type(method: str, path: str, type: str, last: str, types: Collection[str]) -> Route:
    """Two segments: an instance, or a word of the type."""
    if last.startswith("$"):
        return Route("operation", type, operation=last[1:])
    if last == "_history":
        _demand(method, path, _READ)
        return Route("history", type)
    if last == "_search":
        _demand(method, path, _SEARCH)
        return Route("search", type)
    _known_id(last)
    interaction = _INSTANCE.get(method)
    if interaction is None:
        raise _not_allowed(method, path, tuple(_INSTANCE))
    return Route(interaction, type, last)


def _below_instance(method: str, path: str, type: str, id: str, rest: list[str], types: Collection[str]) -> Route:
    """Three segments and more: history, a version, an operation, a compartment."""
    _known_id(id)
    first, more = rest[0], rest[1:]
    if first.startswith("$") and not more:
        return Route("operation", type, id, operation=first[1:])
    if first == "_history":
        if not more:
            _demand(method, path, _READ)
            return Route("history", type, id)
        if len(more) == 2 and more[1].startswith("$"):
            return Route("operation", type, id, more[0], more[1][1:])
        if len(more) == 1:
            _demand(method, path, _READ)
            _known_id(more[0])
            return Route("vread", type, id, more[0])
        raise _no_route(path)
    if more and more != ["_search"]:
        raise _no_route(path)
    if first == "_search" and not more:
        first, more = "*", ["_search"]
    if first != "*":
        _known_type(first, types)
    _demand(method, path, _SEARCH if more else _READ)
    return Route("search", type, id, target=first)


def route(method: str, path: str, types: Collection[str]) -> Route:
    """The interaction for a path below the base ('Patient/1'), of the given resource types.

    Raises FhirError 404 (unknown type or place), 405 (with Allow), 400 (malformed id).
    """
    if method == "OPTIONS":
        return Route("options")
    parts = path.split("/")
    if len(parts) == 2 and parts[0] in types and parts[1]:
        return _below_type(method, path, parts[0], parts[1], types)
    if parts[-1] == "":
        parts.pop()
        path = path.rstrip("/")
    if not parts:
        interaction = _BASE.get(method)
        if interaction is None:
            raise _not_allowed(method, "", tuple(_BASE))
        return Route(interaction)
    if "" in parts:
        raise _no_route(path)
    if len(parts) == 1:
        return _below_base(method, parts[0], types)
    if parts[0] == ASYNC_STATUS and len(parts) == 2:
        _demand(method, path, ("GET", "HEAD", "DELETE"))
        return Route("async-status", id=parts[1])
    if parts[0] not in types and (parts[0].startswith((".", "$", "_")) or parts[0] == "metadata"):
        raise _no_route(path)
    _known_type(parts[0], types)
    if len(parts) == 2:
        return _below_type(method, path, parts[0], parts[1], types)
    return _below_instance(method, path, parts[0], parts[1], parts[2:], types)
