"""Places inside a resource that a FHIRPath Patch names: paths evaluate to locations instead of values, so that they can be changed.

Specification: https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from fhir_server import fhirpath
from fhir_server.errors import FhirError
from fhir_server.model.definitions import ElementDef, definitions

_NAME = re.compile(r"\s*(?:`([^`]+)`|([A-Za-z_][A-Za-z0-9_]*))\s*")
_INTEGER = re.compile(r"\s*[0-9]{1,9}\s*\Z")
_AS = re.compile(r"(.*\S)\s+as\s+((?:FHIR\.|System\.)?[A-Za-z]+)\s*\Z", re.DOTALL)


@dataclass(slots=True)
class Place:
    """One element of a resource.

    `holder[name]` (or `holder[name][index]` of a repeating element) is its JSON value, `holder['_' + name]` holds the id and
    extensions of a primitive. The resource itself has no holder. `type` is a TypeDef name.
    """

    type: str
    holder: dict[str, Any] | None
    name: str
    index: int | None
    parent: Place | None
    resource: dict[str, Any] | None = None

    @property
    def primitive(self) -> bool:
        definition = definitions().types.get(self.type)
        return definition is not None and definition.kind == "primitive"

    @property
    def value(self) -> Any:
        """The JSON value; None for a primitive that has only extensions."""
        if self.holder is None:
            return self.resource
        return _item(self.holder.get(self.name), self.index)

    @property
    def members(self) -> dict[str, Any] | None:
        """The dict that holds the element's children: of a primitive its id and extensions, None when it has none."""
        if self.holder is None:
            return self.resource
        found = _item(self.holder.get("_" + self.name), self.index) if self.primitive else self.value
        return found if isinstance(found, dict) else None


def _item(value: Any, index: int | None) -> Any:
    if index is None:
        return value
    return value[index] if isinstance(value, list) and index < len(value) else None


class Step(NamedTuple):
    """One step of a path: `kind` is member | index | function; `text` the name, number or function name; `argument` inside parentheses."""

    kind: str
    text: str
    argument: str = ""


def root(resource: dict[str, Any]) -> Place:
    """The place of a whole resource."""
    return Place(str(resource.get("resourceType", "")), None, "", None, None, resource)


def locate(resource: dict[str, Any], path: str) -> list[Place]:
    """The places that `path` names, in document order.

    A path is a chain of element names, `[n]`, `where()`, `first()`, `last()`, `tail()`, `single()`, `skip()`, `take()`,
    `ofType()`, `as()` and `extension()`. Raises FhirError 400 for another path, 422 where `single()` meets several.
    """
    return follow([root(resource)], parse_path(path), path)


def follow(places: list[Place], steps: list[Step], path: str) -> list[Place]:
    """The places that the steps lead to from the given ones."""
    for number, step in enumerate(steps):
        if step.kind == "member":
            if number == 0 and _names_type(places, step.text):
                continue
            places = [child for place in places for child in children(place, step.text)]
        elif step.kind == "index":
            position = int(step.text)
            places = places[position : position + 1]
        else:
            places = _FUNCTIONS[step.text](places, step.argument, path)
    return places


def _names_type(places: list[Place], name: str) -> bool:
    return bool(places) and places[0].holder is None and (name == places[0].type or name in ("Resource", "DomainResource"))


def element_of(type_name: str, name: str) -> ElementDef | None:
    """The element of a type by its FHIR name ('value') or, for a choice, by its JSON name ('valueQuantity')."""
    definition = definitions().types.get(type_name)
    if definition is None:
        return None
    element = definition.elements.get(name)
    if element is None and name in definition.by_json:
        element = definition.by_json[name][0]
    return element


def children(place: Place, name: str) -> Iterator[Place]:
    """The elements `name` of an element; a choice's in whatever type it has."""
    members = place.members
    definition = definitions().types.get(place.type)
    element = element_of(place.type, name)
    if not members or definition is None or element is None:
        return
    for json_name in element.json_names:
        if name not in (element.name, json_name):
            continue
        value, shadow = members.get(json_name), members.get("_" + json_name)
        if value is None and shadow is None:
            continue
        code = definition.by_json[json_name][1]
        if isinstance(value, list) or isinstance(shadow, list):
            count = max(len(value or ()), len(shadow or ()))
            for index in range(count):
                yield Place(_actual(code, _item(value, index)), members, json_name, index, place)
        else:
            yield Place(_actual(code, value), members, json_name, None, place)


def _actual(code: str, value: Any) -> str:
    """The type of a value: that of the resource where a resource is held."""
    if isinstance(value, dict) and code in ("Resource", "DomainResource"):
        return str(value.get("resourceType", code))
    return code


def parse_path(path: str) -> list[Step]:
    """The steps of a path. Raises FhirError 400 naming the position where it is not understood."""
    text = path.strip()
    if text.startswith("("):
        end = _closing(text, 0, path)
        inner = text[1:end]
        rest = text[end + 1 :]
        cast = _AS.match(inner)
        steps = parse_path(cast.group(1)) if cast else parse_path(inner)
        if cast:
            steps.append(Step("function", "as", cast.group(2)))
        return steps + _tail(rest, path) if rest.strip() else steps
    cast = _AS.match(text)
    if cast:
        return [*parse_path(cast.group(1)), Step("function", "as", cast.group(2))]
    return _tail("." + text, path)


def _tail(text: str, path: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] == "[":
            end = _closing(text, at, path)
            if not _INTEGER.match(text[at + 1 : end]):
                raise _unknown(path, text[at:])
            steps.append(Step("index", text[at + 1 : end].strip()))
            at = end + 1
        elif text[at] == "." and (match := _NAME.match(text, at + 1)):
            at = match.end()
            name = match.group(1) or match.group(2)
            if at < len(text) and text[at] == "(" and match.group(2):
                end = _closing(text, at, path)
                if name not in _FUNCTIONS:
                    raise FhirError.of(
                        400,
                        "not-supported",
                        f"The function {name}() cannot be used in the patch path '{path}'",
                        zh=f"补丁路径“{path}”中不能使用函数 {name}()",
                    )
                steps.append(Step("function", name, text[at + 1 : end]))
                at = end + 1
            else:
                steps.append(Step("member", name))
        else:
            raise _unknown(path, text[at:])
    if not steps:
        raise FhirError.of(400, "value", "A patch path must not be empty", zh="补丁路径不能为空")
    return steps


def _unknown(path: str, rest: str) -> FhirError:
    return FhirError.of(
        400, "value", f"The patch path '{path}' is not understood at '{rest[:40]}'", zh=f"无法理解补丁路径“{path}”，位置在“{rest[:40]}”"
    )


def _closing(text: str, start: int, path: str) -> int:
    """The position of the bracket that closes the one at `start`; strings and backticked names are skipped."""
    depth, at = 0, start
    while at < len(text):
        character = text[at]
        if character in "'`\"":
            at += 1
            while at < len(text) and text[at] != character:
                at += 2 if text[at] == "\\" else 1
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise FhirError.of(400, "value", f"The patch path '{path}' has an unclosed bracket", zh=f"补丁路径“{path}”中有未闭合的括号")


def _where(places: list[Place], argument: str, path: str) -> list[Place]:
    try:
        criterion = fhirpath.compile(argument)
    except fhirpath.FhirPathSyntaxError as problem:
        raise FhirError.of(
            400,
            "value",
            f"The criterion of where() in the patch path '{path}' is no FHIRPath: {problem}",
            zh=f"补丁路径“{path}”中 where() 的条件不是 FHIRPath：{problem.zh}",
        ) from problem
    try:
        return [place for place in places if _meets(criterion, place)]
    except fhirpath.FhirPathError as problem:
        raise FhirError.of(
            422,
            "processing",
            f"The criterion of where() in the patch path '{path}': {problem}",
            zh=f"补丁路径“{path}”中 where() 的条件：{problem.zh}",
        ) from problem


def _meets(criterion: fhirpath.Expression, place: Place) -> bool:
    found = evaluate_on(criterion, place)
    return len(found) == 1 and found[0].value is True


def evaluate_on(expression: fhirpath.Expression, place: Place) -> list[fhirpath.Item]:
    """A FHIRPath expression evaluated with one element as its focus."""
    top = place
    while top.parent is not None:
        top = top.parent
    return expression.evaluate(top.resource, context=fhirpath.focus(place.value, place.type, place.members if place.primitive else None))


def _whole(argument: str, path: str) -> int:
    if not _INTEGER.match(argument):
        raise FhirError.of(
            400, "value", f"'{argument}' in the patch path '{path}' must be a whole number", zh=f"补丁路径“{path}”中的“{argument}”应为整数"
        )
    return int(argument)


def _single(places: list[Place], argument: str, path: str) -> list[Place]:
    if len(places) > 1:
        raise FhirError.of(
            422,
            "processing",
            f"single() in the patch path '{path}' meets {len(places)} elements",
            zh=f"补丁路径“{path}”中的 single() 遇到 {len(places)} 个元素，只允许一个",
        )
    return places


def _of_type(places: list[Place], argument: str, path: str) -> list[Place]:
    name = argument.strip().removeprefix("FHIR.").strip("`")
    return [place for place in places if place.type == name or definitions().is_subtype(place.type, name)]


def _extension(places: list[Place], argument: str, path: str) -> list[Place]:
    url = argument.strip()
    if len(url) < 2 or url[0] != "'" or url[-1] != "'":
        raise FhirError.of(
            400, "value", f"extension() in the patch path '{path}' wants one string", zh=f"补丁路径“{path}”中的 extension() 需要一个字符串"
        )
    found = [child for place in places for child in children(place, "extension")]
    return [place for place in found if (place.members or {}).get("url") == url[1:-1]]


_FUNCTIONS: dict[str, Callable[[list[Place], str, str], list[Place]]] = {
    "where": _where,
    "first": lambda places, argument, path: places[:1],
    "last": lambda places, argument, path: places[-1:],
    "tail": lambda places, argument, path: places[1:],
    "single": _single,
    "skip": lambda places, argument, path: places[_whole(argument, path) :],
    "take": lambda places, argument, path: places[: _whole(argument, path)],
    "ofType": _of_type,
    "as": _of_type,
    "extension": _extension,
}
