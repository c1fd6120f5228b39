"""Random faults in valid resources: where something stands, and what is done to it.

Each mutation changes one place and says which expression the validator must name; the definitions tell what the place requires.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fhir_server.model.definitions import ElementDef, definitions


@dataclass(frozen=True)
class Site:
    """One JSON member: in the object at `steps` (keys and indexes from the root), which has the expression `at`, under `name`."""

    steps: tuple[str | int, ...]
    at: str
    type_name: str
    name: str
    element: ElementDef
    value: Any

    def holder(self, root: dict[str, Any]) -> dict[str, Any]:
        """The same object in a copy of the resource."""
        found: Any = root
        for step in self.steps:
            found = found[step]
        return found

    @property
    def place(self) -> str:
        return f"{self.at}.{self.element.name}"


def sites(resource: dict[str, Any]) -> list[Site]:
    """All members of all objects that the definitions know (siblings `_name` and `resourceType` aside)."""
    return list(_sites(resource, resource["resourceType"], (), resource["resourceType"]))


def _sites(value: dict[str, Any], type_name: str, steps: tuple[str | int, ...], at: str) -> Iterator[Site]:
    for name, inner in value.items():
        if name == "resourceType" or name.startswith("_"):
            continue
        element, inner_type = definitions().types[type_name].by_json[name]
        yield Site(steps, at, type_name, name, element, inner)
        many = isinstance(inner, list)
        for index, item in enumerate(inner if many else [inner]):
            if isinstance(item, dict):
                place = f"{at}.{element.name}" + (f"[{index}]" if many else "")
                kind = item["resourceType"] if inner_type == "Resource" else inner_type
                yield from _sites(item, kind, (*steps, name, index) if many else (*steps, name), place)


Mutation = Callable[[dict[str, Any], Site, random.Random], str | None]
"""Changes the resource at the site; the expression that must be named, None where the mutation does not apply there."""


def drop_required(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    if not site.element.min:
        return None
    holder = site.holder(root)
    del holder[site.name]
    holder.pop("_" + site.name, None)
    return site.place


def wrong_kind(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    """Another JSON kind in the place of the value, or of one item of an array."""
    value = site.value
    if isinstance(value, list):
        index = chance.randrange(len(value))
        if value[index] is None:
            return None
        site.holder(root)[site.name][index] = _another(value[index], chance)
        return f"{site.place}[{index}]"
    site.holder(root)[site.name] = _another(value, chance)
    return site.place


def _another(value: Any, chance: random.Random) -> Any:
    kinds: list[Any] = ["x", 7, True, {"x": 1}, ["x"], [[]]]
    kind = type(value) if isinstance(value, bool | str | dict) else int
    return chance.choice([other for other in kinds if type(other) is not kind])


def array_or_not(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    """An array where there is none due, or the bare item where one is due."""
    site.holder(root)[site.name] = site.value[0] if isinstance(site.value, list) else [site.value]
    return site.place


def unknown_name(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    name = chance.choice([site.name + "X", site.name.title() + "s", "x" + site.name, site.name + "[x]"])
    site.holder(root)[name] = site.holder(root).pop(site.name)
    return f"{site.at}.`{name}`" if "[" in name else f"{site.at}.{name}"


def bad_code(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    binding = site.element.binding
    if not (binding and binding.strength == "required" and site.element.types[0].code == "code" and definitions().codes(binding.value_set)):
        return None
    bad = chance.choice(["no-such-code", "X" + str(site.value), "男"])
    if isinstance(site.value, list):
        site.holder(root)[site.name][0] = bad
        return f"{site.place}[0]"
    site.holder(root)[site.name] = bad
    return site.place


def emptied(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    holder = site.holder(root)
    if isinstance(site.value, list):
        holder[site.name] = []
    elif isinstance(site.value, str):
        holder[site.name] = ""
    elif isinstance(site.value, dict) and "resourceType" not in site.value:
        holder[site.name] = {}
        # what a type requires, the object as a whole lacks; both are told at or below the place
    else:
        return None
    return site.place


def nulled(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    site.holder(root)[site.name] = None
    return site.place


def second_choice(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    """A second type of a choice beside the first."""
    if not site.element.choice:
        return None
    name = chance.choice([name for name in site.element.json_names if name != site.name])
    site.holder(root)["_" + name if site.element.json_names[name][0].islower() else name] = {
        "extension": [{"url": "urn:x", "valueCode": "y"}]
    }
    return site.place


def foreign_target(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    """A reference to a type that the element does not name."""
    targets = {target for ref in site.element.types if ref.code == "Reference" for target in ref.targets}
    reference = definitions().types[site.type_name].by_json[site.name][1] == "Reference"
    if not reference or not targets or "Resource" in targets:
        return None
    kind = chance.choice([name for name in definitions().resource_types if name not in targets])
    value = {"reference": f"{kind}/1"}
    site.holder(root)[site.name] = [value] if isinstance(site.value, list) else value
    return site.place + ("[0]" if isinstance(site.value, list) else "") + ".reference"


FORMATS = {
    "date": "2023-02-29", "dateTime": "2023-02-29T00:00:00Z", "instant": "2023-13-01T00:00:00Z", "time": "24:00:00", "id": "a b",
    "uri": "a b", "url": "a b", "canonical": "a b", "code": " x", "base64Binary": "A", "oid": "1.2", "uuid": "x",
    "integer": 1.5, "unsignedInt": -1, "positiveInt": 0, "string": "a\u0001", "markdown": "a\u0001",
}  # fmt: skip


def bad_format(root: dict[str, Any], site: Site, chance: random.Random) -> str | None:
    """A primitive of the right JSON kind that is not one of its type."""
    type_name = definitions().types[site.type_name].by_json[site.name][1]
    bad = FORMATS.get(type_name)
    if bad is None:
        return None
    if isinstance(site.value, list):
        site.holder(root)[site.name][0] = bad
        return f"{site.place}[0]"
    site.holder(root)[site.name] = bad
    return site.place


MUTATIONS: list[Mutation] = [
    drop_required, wrong_kind, array_or_not, unknown_name, bad_code, emptied, nulled, second_choice, foreign_target, bad_format,
]  # fmt: skip


def mutants(resource: dict[str, Any], count: int, chance: random.Random) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name of the mutation, expression that must be named, mutated copy), up to `count` of them."""
    places = sites(resource)
    for _ in range(count):
        mutation, mutated = chance.choice(MUTATIONS), copy.deepcopy(resource)
        for site in chance.sample(places, min(12, len(places))):  # one that does not apply has changed nothing
            expression = mutation(mutated, site, chance)
            if expression is not None:
                yield mutation.__name__, expression, mutated
                break
