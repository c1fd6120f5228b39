"""The difference of two resources as a FHIRPath Patch: applied to the first, it gives the second.

At each element additions and replacements come before deletions, and lists are worked through from their end, so that every
path holds when its operation is applied, and no element vanishes for being empty in between.
Specification: https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any, NamedTuple

from fhir_server.model import json_codec
from fhir_server.model.definitions import ElementDef, TypeDef, definitions

_DELIMITED = frozenset({"div", "mod", "and", "or", "xor", "implies", "true", "false"})
"""Words of FHIRPath that stand between backticks where they name an element."""
_LONG = 1000
"""Lists beyond this length are compared place by place instead of by their longest common parts."""


class _Item(NamedTuple):
    """One value of an element: JSON name without type suffix resolved, type, value, and id/extensions of a primitive."""

    type: str
    value: Any
    shadow: Any


def diff_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The Parameters resource; both resources are of one type. Without a difference it has no parameters."""
    type = before["resourceType"]
    operations = _Diff().members(type, type, before, after)
    return {"resourceType": "Parameters", **({"parameter": operations} if operations else {})}


def _operation(type: str, path: str, value: dict[str, Any] | None = None, **parts: dict[str, Any]) -> dict[str, Any]:
    listed: list[dict[str, Any]] = [{"name": "type", "valueCode": type}, {"name": "path", "valueString": path}]
    listed += [{"name": name, **part} for name, part in parts.items()]
    if value is not None:
        listed.append({"name": "value", **value})
    return {"name": "operation", "part": listed}


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(value[name]) for name in sorted(value)}
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def _key(item: _Item) -> bytes:
    """Equal for items that are written alike; 1.10 and 1.1 are not."""
    return json_codec.dumps([item.type, _canonical(item.value), _canonical(item.shadow)])


def _at(list: Any, index: int) -> Any:
    return list[index] if list and index < len(list) else None


def _items(type: TypeDef, element: ElementDef, members: dict[str, Any]) -> list[_Item]:
    """The values of an element, one for each place of its list."""
    for name in element.json_names:
        value, shadow = members.get(name), members.get("_" + name)
        if value is None and shadow is None:
            continue
        code = type.by_json[name][1]
        if isinstance(value, list) or isinstance(shadow, list):
            count = max(len(value or ()), len(shadow or ()))
            return [_Item(_actual(code, _at(value, n)), _at(value, n), _at(shadow, n)) for n in range(count)]
        return [_Item(_actual(code, value), value, shadow)]
    return []


def _actual(code: str, value: Any) -> str:
    return str(value["resourceType"]) if code in ("Resource", "DomainResource") and isinstance(value, dict) else code


def _value(item: _Item) -> dict[str, Any]:
    """A value as value[x], as resource, or built from parts where Parameters does not have its type."""
    known = definitions().types[item.type]
    if known.kind == "resource":
        return {"resource": item.value}
    name = "value" + item.type[:1].upper() + item.type[1:]
    if name not in definitions().types["Parameters.parameter"].by_json:
        if known.kind != "primitive":
            return {"part": _parts(known, item.value)}
        name = "valueString"  # xhtml
    value = {name: item.value} if item.value is not None else {}
    return {**value, "_" + name: item.shadow} if item.shadow is not None else value


def _parts(type: TypeDef, members: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": element.name, **_value(item)} for element in type.elements.values() for item in _items(type, element, members)]


class _Diff:
    """Walks two values side by side; each method gives operations in the order in which they apply."""

    def members(self, type_name: str, path: str, before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
        """What makes `after` of `before`, two elements of a type at one path."""
        changes: list[dict[str, Any]] = []
        deletions: list[dict[str, Any]] = []
        known = definitions().types[type_name]
        for element in known.elements.values():
            old, new = _items(known, element, before), _items(known, element, after)
            if not old and not new:
                continue
            step = f"`{element.name}`" if element.name in _DELIMITED else element.name
            if element.max != 1:
                if new:
                    changes += self.listed(f"{path}.{step}", old, new)
                else:
                    deletions += [_operation("delete", f"{path}.{step}[{n}]") for n in reversed(range(len(old)))]
            elif not old:
                changes.append(_operation("add", path, _value(new[0]), name={"valueString": element.name}))
            elif not new:
                deletions.append(_operation("delete", f"{path}.{step}"))
            else:
                changes += self.one(f"{path}.{step}", old[0], new[0])
        return changes + deletions

    def one(self, path: str, old: _Item, new: _Item) -> list[dict[str, Any]]:
        """One value in place of another."""
        if _key(old) == _key(new):
            return []
        if old.type == new.type and definitions().types[old.type].kind != "primitive":
            return self.members(old.type, path, old.value, new.value)
        return [_operation("replace", path, _value(new))]

    def listed(self, path: str, old: list[_Item], new: list[_Item]) -> list[dict[str, Any]]:
        """Insertions, deletions and changes of a list, from its end; `new` is not empty."""
        left, right = [_key(item) for item in old], [_key(item) for item in new]
        if left == right:
            return []
        if max(len(left), len(right)) > _LONG:
            blocks = [("replace", 0, len(left), 0, len(right))]
        else:
            blocks = list(SequenceMatcher(None, left, right, autojunk=False).get_opcodes())
        operations: list[dict[str, Any]] = []
        for kind, start, end, first, last in reversed(blocks):
            if kind == "equal":
                continue
            shared = min(end - start, last - first)
            for number in range(first + shared, last):
                operations.append(_insert(path, start + number - first, new[number]))
            for number in reversed(range(start + shared, end)):
                operations.append(_operation("delete", f"{path}[{number}]"))
            for number in reversed(range(shared)):
                operations += self._place(path, start + number, old[start + number], new[first + number])
        return operations

    def _place(self, path: str, index: int, old: _Item, new: _Item) -> list[dict[str, Any]]:
        """One place of a list. A primitive without a value is not replaced but put before what it replaces."""
        if definitions().types[new.type].kind == "primitive" and (old.value is None or new.value is None) and _key(old) != _key(new):
            return [_insert(path, index, new), _operation("delete", f"{path}[{index + 1}]")]
        return self.one(f"{path}[{index}]", old, new)


def _insert(path: str, index: int, item: _Item) -> dict[str, Any]:
    return _operation("insert", path, _value(item), index={"valueInteger": index})
