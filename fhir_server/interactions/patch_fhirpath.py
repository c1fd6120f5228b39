"""FHIRPath Patch: a Parameters resource whose operations add, insert, delete, replace and move elements.

Specification: https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fhir_server.errors import FhirError
from fhir_server.interactions.patch_json import copy_json
from fhir_server.interactions.patch_path import Place, element_of, follow, locate, parse_path, root
from fhir_server.model.definitions import ElementDef, definitions

_WANTED = {
    "add": ("path", "name", "value"),
    "insert": ("path", "index", "value"),
    "delete": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "source", "destination"),
}
_PART_JSON = {
    "type": ("valueCode", "valueString"),
    "path": ("valueString",),
    "name": ("valueString",),
    "index": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
    "source": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
    "destination": ("valueInteger", "valueUnsignedInt", "valuePositiveInt"),
}


@dataclass(slots=True)
class Change:
    """One operation. `value` is the `value` part as sent; `at` its FHIRPath expression in the Parameters."""

    type: str
    path: str
    name: str
    index: int
    source: int
    destination: int
    value: dict[str, Any]
    at: str


@dataclass(slots=True)
class _Value:
    """A value to be written: its type code ('' when built from parts), JSON value, and id/extensions of a primitive."""

    type: str
    json: Any
    shadow: dict[str, Any] | None = None


def check_fhirpath_patch(parameters: dict[str, Any]) -> list[Change]:
    """The operations of a Parameters resource. Raises FhirError 400 naming the parameter when it is not a FHIRPath Patch."""
    changes = []
    for number, parameter in enumerate(parameters.get("parameter") or ()):
        at = f"Parameters.parameter[{number}]"
        if parameter.get("name") != "operation":
            raise FhirError.of(
                400,
                "value",
                f"A FHIRPath Patch has parameters named 'operation' only, found '{parameter.get('name')}'",
                at,
                zh=f"FHIRPath Patch 的参数只能名为“operation”，而收到“{parameter.get('name')}”",
            )
        changes.append(_change(parameter, at))
    return changes


def _change(parameter: dict[str, Any], at: str) -> Change:
    parts: dict[str, dict[str, Any]] = {}
    for part in parameter.get("part") or ():
        name = part.get("name")
        if name not in _PART_JSON and name != "value":
            raise FhirError.of(
                400, "value", f"'{name}' is no part of a FHIRPath Patch operation", at, zh=f"“{name}”不是 FHIRPath Patch 操作的组成部分"
            )
        if name in parts:
            raise FhirError.of(400, "structure", f"The part '{name}' occurs twice", at, zh=f"组成部分“{name}”出现了两次")
        parts[name] = part
    given = {name: _plain(part, _PART_JSON[name], at) for name, part in parts.items() if name != "value"}
    kind = given.get("type")
    if kind not in _WANTED:
        raise FhirError.of(
            400,
            "value",
            f"The operation's 'type' must be one of {', '.join(_WANTED)}, found {kind!r}",
            at,
            zh=f"操作的“type”应为 {'、'.join(_WANTED)} 之一，而收到 {kind!r}",
        )
    for name in _WANTED[kind]:
        if name not in parts:
            raise FhirError.of(
                400, "required", f"The operation '{kind}' needs the part '{name}'", at, zh=f"操作“{kind}”缺少组成部分“{name}”"
            )
    parse_path(given["path"])
    return Change(
        kind,
        given["path"],
        given.get("name", ""),
        given.get("index", 0),
        given.get("source", 0),
        given.get("destination", 0),
        parts.get("value", {}),
        at,
    )


def _plain(part: dict[str, Any], names: tuple[str, ...], at: str) -> Any:
    for name in names:
        value = part.get(name)
        if isinstance(value, int if "Int" in name else str) and not isinstance(value, bool):
            return value
    raise FhirError.of(
        400,
        "value",
        f"The part '{part.get('name')}' must have {' or '.join(names)}",
        at,
        zh=f"组成部分“{part.get('name')}”必须有 {' 或 '.join(names)}",
    )


def apply_fhirpath_patch(resource: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """The patched resource; `resource` itself is not changed. The operations apply in order, all or none.

    Raises FhirError 422 naming the operation and its path when it cannot apply.
    """
    result = copy_json(resource)
    for change in changes:
        _APPLY[change.type](result, change)
    return result


def _failure(change: Change, reason: str, zh: str) -> FhirError:
    return FhirError.of(
        422,
        "processing",
        f"FHIRPath Patch '{change.type}' at '{change.path}': {reason}",
        change.at,
        zh=f"FHIRPath Patch 的操作“{change.type}”（路径“{change.path}”）：{zh}",
    )


def _one(resource: dict[str, Any], change: Change, doing: str, doing_zh: str) -> Place:
    """The single place that the path names."""
    places = locate(resource, change.path)
    if not places:
        raise _failure(change, f"No content found at {change.path} when {doing}", f"{doing_zh}时在 {change.path} 处没有找到内容")
    if len(places) > 1:
        raise _failure(
            change,
            f"The path names {len(places)} elements; it must name one when {doing}",
            f"路径指向 {len(places)} 个元素；{doing_zh}时只能指向一个",
        )
    return places[0]


def _add(resource: dict[str, Any], change: Change) -> None:
    place = _one(resource, change, "adding", "添加")
    element = element_of(place.type, change.name)
    if element is None:
        raise _failure(change, f"{place.type} has no element '{change.name}'", f"{place.type} 没有元素“{change.name}”")
    value = _value(change.value, element, change)
    name = _json_name(element, change.name, value, change)
    members = _members_for_writing(place, change)
    if element.max != 1:
        _insert_pair(members, name, _length(members, name), value)
        return
    if any(other in members or "_" + other in members for other in element.json_names):
        raise _failure(
            change, f"the element '{change.name}' is there already and does not repeat", f"元素“{change.name}”已存在，且不可重复"
        )
    _set_pair(members, name, value)


def _members_for_writing(place: Place, change: Change) -> dict[str, Any]:
    """The dict for a new child; of a primitive its `_name`, made when absent."""
    members = place.members
    if members is not None:
        return members
    if not place.primitive or place.holder is None:
        raise _failure(change, "the element cannot have children", "该元素不能有子元素")
    fresh: dict[str, Any] = {}
    if place.index is None:
        place.holder["_" + place.name] = fresh
    else:
        _shadows(place.holder, place.name)[place.index] = fresh
    return fresh


def _collection(resource: dict[str, Any], change: Change) -> tuple[Place, ElementDef, str]:
    """Parent place, element and JSON name of the list that the path of an insert or move names."""
    steps = parse_path(change.path)
    last = steps[-1]
    if last.kind != "member":
        raise _failure(change, "the path must end with the name of a repeating element", "路径必须以可重复元素的名称结尾")
    parents = follow([root(resource)], steps[:-1], change.path)
    if len(parents) != 1:
        raise _failure(
            change,
            f"the path names {len(parents)} elements that could hold the list; it must be one",
            f"路径指向 {len(parents)} 个可能含有此列表的元素；只能指向一个",
        )
    element = element_of(parents[0].type, last.text)
    if element is None:
        raise _failure(change, f"{parents[0].type} has no element '{last.text}'", f"{parents[0].type} 没有元素“{last.text}”")
    if element.max == 1 or element.choice:
        raise _failure(change, f"the element '{last.text}' does not repeat", f"元素“{last.text}”不可重复")
    return parents[0], element, next(iter(element.json_names))


def _insert(resource: dict[str, Any], change: Change) -> None:
    parent, element, name = _collection(resource, change)
    members = _members_for_writing(parent, change)
    length = _length(members, name)
    if not 0 <= change.index <= length:
        raise _failure(change, f"the index {change.index} is outside 0..{length}", f"下标 {change.index} 超出范围 0..{length}")
    _insert_pair(members, name, change.index, _value(change.value, element, change))


def _move(resource: dict[str, Any], change: Change) -> None:
    parent, _, name = _collection(resource, change)
    members = parent.members or {}
    length = _length(members, name)
    for label, index in (("source", change.source), ("destination", change.destination)):
        if not 0 <= index < length:
            raise _failure(
                change,
                f"the {label} {index} is outside the list of {length} elements",
                f"{label} {index} 超出列表范围，列表有 {length} 个元素",
            )
    for key in (name, "_" + name):
        items = members.get(key)
        if items:
            items += [None] * (length - len(items))
            items.insert(change.destination, items.pop(change.source))


def _delete(resource: dict[str, Any], change: Change) -> None:
    places = locate(resource, change.path)
    if len(places) > 1:
        raise _failure(
            change,
            f"The path names {len(places)} elements; it must name one when deleting",
            f"路径指向 {len(places)} 个元素；删除时只能指向一个",
        )
    if not places:
        return
    if places[0].holder is None:
        raise _failure(change, "a patch cannot delete the resource", "补丁不能删除整个资源")
    _remove(places[0])


def _remove(place: Place) -> None:
    """Take an element away, and with it what holds nothing any more."""
    holder = place.holder
    if holder is None:
        return
    for key in (place.name, "_" + place.name):
        if place.index is None:
            holder.pop(key, None)
        elif key in holder:
            if place.index < len(holder[key]):
                del holder[key][place.index]
            if all(item is None for item in holder[key]):
                del holder[key]
    if not holder and place.parent is not None:
        parent = place.parent
        if parent.primitive and parent.value is not None and parent.holder is not None:
            _drop_shadow(parent)
        else:
            _remove(parent)


def _drop_shadow(place: Place) -> None:
    """Take the emptied id/extensions of a primitive away; its value stays."""
    assert place.holder is not None
    key = "_" + place.name
    if place.index is None:
        place.holder.pop(key, None)
        return
    place.holder[key][place.index] = None
    if all(item is None for item in place.holder[key]):
        del place.holder[key]


def _replace(resource: dict[str, Any], change: Change) -> None:
    place = _one(resource, change, "replacing", "替换")
    if place.holder is None or place.parent is None:
        raise _failure(change, "a patch cannot replace the resource", "补丁不能替换整个资源")
    element = element_of(place.parent.type, place.name)
    if element is None:
        raise _failure(change, f"{place.parent.type} has no element '{place.name}'", f"{place.parent.type} 没有元素“{place.name}”")
    value = _value(change.value, element, change)
    name = _json_name(element, element.name if element.choice else place.name, value, change)
    if place.index is None:
        place.holder.pop(place.name, None)
        place.holder.pop("_" + place.name, None)
        _set_pair(place.holder, name, value)
        return
    _values(place.holder, place.name)[place.index] = value.json
    if value.shadow is not None:
        _shadows(place.holder, place.name)[place.index] = value.shadow
    elif "_" + place.name in place.holder and place.index < len(place.holder["_" + place.name]):
        _drop_shadow(place)


# --- pairs of a JSON name and its underscore twin


def _length(members: dict[str, Any], name: str) -> int:
    return max(len(members.get(name) or ()), len(members.get("_" + name) or ()))


def _values(members: dict[str, Any], name: str) -> list[Any]:
    """The list of values, padded to the length of the pair."""
    items = members.setdefault(name, [])
    items += [None] * (_length(members, name) - len(items))
    return items


def _shadows(members: dict[str, Any], name: str) -> list[Any]:
    items = members.setdefault("_" + name, [])
    items += [None] * (_length(members, name) - len(items))
    return items


def _insert_pair(members: dict[str, Any], name: str, index: int, value: _Value) -> None:
    if value.shadow is not None or "_" + name in members:
        _shadows(members, name).insert(index, value.shadow)
    length = _length(members, name)
    items = members.setdefault(name, [])
    items += [None] * (length - 1 - len(items) if "_" + name in members else 0)
    items.insert(index, value.json)
    if all(item is None for item in items):
        del members[name]


def _set_pair(members: dict[str, Any], name: str, value: _Value) -> None:
    if value.json is not None:
        members[name] = value.json
    if value.shadow is not None:
        members["_" + name] = value.shadow


# --- values


def _value(part: dict[str, Any], element: ElementDef, change: Change) -> _Value:
    """The value of a part: `value[x]`, a `resource`, or an element built from nested parts."""
    names = [name for name in part if name.startswith("value")]
    if names:
        name = names[0]
        code = name[5:]
        return _Value(_type_named(code), copy_json(part[name]), copy_json(part.get("_" + name)))
    shadows = [name for name in part if name.startswith("_value")]
    if shadows:
        return _Value(_type_named(shadows[0][6:]), None, copy_json(part[shadows[0]]))
    if "resource" in part:
        return _Value(str(part["resource"].get("resourceType", "Resource")), copy_json(part["resource"]))
    if part.get("part"):
        type_name = _built_type(element, change)
        return _Value("", _built(part["part"], type_name, change))
    raise _failure(change, f"the part '{part.get('name')}' has no value", f"组成部分“{part.get('name')}”没有值")


def _type_named(suffix: str) -> str:
    """The type code of the suffix of a value[x] name: 'DateTime' -> 'dateTime', 'Quantity' -> 'Quantity'."""
    lower = suffix[:1].lower() + suffix[1:]
    return lower if lower in definitions().types else suffix


def _built_type(element: ElementDef, change: Change) -> str:
    if element.content:
        return element.content
    if len(element.json_names) != 1:
        raise _failure(
            change,
            f"'{element.name}' may have several types: state the value as value[x]",
            f"“{element.name}”可能有多种类型：请以 value[x] 给出值",
        )
    owner = definitions().types[element.path.rpartition(".")[0]]
    return owner.by_json[element.name][1]


def _built(parts: list[dict[str, Any]], type_name: str, change: Change) -> dict[str, Any]:
    """An element of `type_name` from parts that are named as its elements."""
    built: dict[str, Any] = {}
    for part in parts:
        name = str(part.get("name", ""))
        element = element_of(type_name, name)
        if element is None:
            raise _failure(change, f"{type_name} has no element '{name}'", f"{type_name} 没有元素“{name}”")
        value = _nested(part, element, type_name, change)
        json_name = _json_name(element, name, value, change)
        if element.max != 1:
            _insert_pair(built, json_name, _length(built, json_name), value)
        elif json_name in built or "_" + json_name in built:
            raise _failure(
                change,
                f"the element '{name}' of {type_name} occurs twice and does not repeat",
                f"{type_name} 的元素“{name}”出现了两次，且不可重复",
            )
        else:
            _set_pair(built, json_name, value)
    return built


def _nested(part: dict[str, Any], element: ElementDef, type_name: str, change: Change) -> _Value:
    if part.get("part") and not any(name.lstrip("_").startswith("value") for name in part):
        below = definitions().types[type_name].by_json.get(next(iter(element.json_names)))
        if below is not None and not element.choice:
            return _Value("", _built(part["part"], below[1], change))
    return _value(part, element, change)


def _json_name(element: ElementDef, asked: str, value: _Value, change: Change) -> str:
    """The JSON name under which a value of this type goes. Raises FhirError 422 when the element cannot have the type."""
    if asked != element.name and asked in element.json_names:
        allowed = [asked]
    else:
        allowed = list(element.json_names)
    types = definitions().types
    for name in allowed:
        if value.type in ("", element.json_names[name]):
            return name
    if value.type not in types:
        raise _failure(change, f"'{value.type}' is not a type", f"“{value.type}”不是数据类型")
    if not element.choice:
        name = allowed[0]
        wanted = types.get(element.json_names[name])
        if (
            wanted is not None
            and (wanted.kind == "primitive") == (types[value.type].kind == "primitive")
            and (
                wanted.kind == "primitive"
                or definitions().is_subtype(value.type, wanted.name)
                or wanted.kind == "resource"
                or wanted.abstract
            )
        ):
            return name
    raise _failure(
        change,
        f"'{element.name}' cannot be of type {value.type}; allowed: {', '.join(element.json_names.values())}",
        f"“{element.name}”不能是 {value.type} 类型；允许的类型：{'、'.join(element.json_names.values())}",
    )


_APPLY = {"add": _add, "insert": _insert, "delete": _delete, "replace": _replace, "move": _move}
