"""Random trees of `_filter` over random resources: the server finds what a look at every resource finds.

Specification: https://hl7.org/fhir/R4/search_filter.html
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import SOAK
from tests.search import brute
from tests.search.random_world import CODES, FAMILIES, GIVEN, SEED, STATUSES, SYSTEMS, moment, populated

RESOURCES, TREES = (400, 10_000) if SOAK else (160, 1_000)
Judge = Callable[[brute.World, brute.Resource], bool]
"""Whether a resource of a world meets a tree."""
Tree = tuple[str, Judge]
"""A tree as text, and as what it means."""


def quoted(rnd: random.Random, value: str) -> str:
    """A value may stand bare where nothing in it ends it, and as a JSON string always."""
    bare = value and not set(value) & set(' "()[]\\')
    return value if bare and rnd.random() < 0.5 else json.dumps(value, ensure_ascii=rnd.random() < 0.5)


def present(name: str) -> Judge:
    return lambda world, one: brute.matches(world, one, f"{name}:missing", "false")


def equal(name: str, value: str) -> Judge:
    return lambda world, one: brute.matches(world, one, name, value)


def unequal(name: str, value: str) -> Judge:
    """`ne`: there is something, and it is nothing equal."""
    return lambda world, one: present(name)(world, one) and not equal(name, value)(world, one)


# --- tests of one parameter
def token(rnd: random.Random, type: str) -> Tree:
    name = rnd.choice([name for of, name in brute.TOKENS if of == type])
    pools: dict[str, tuple[str, ...]] = {"gender": ("male", "female"), "status": STATUSES.get(type, ()), "identifier": ("1", "7", "13")}
    value = rnd.choice(pools.get(name, CODES))
    if name not in ("gender", "status") and rnd.random() < 0.5:
        value = f"{rnd.choice(SYSTEMS)}|{value}"
    operator = rnd.choice(("eq", "eq", "ne"))
    return f"{name} {operator} {quoted(rnd, value)}", (equal if operator == "eq" else unequal)(name, value)


def date(rnd: random.Random, type: str) -> Tree:
    name, places = rnd.choice([(name, places) for (of, name), places in brute.DATES.items() if of == type])
    value, operator = moment(rnd), rnd.choice((*brute.PREFIXES, "po"))
    low, high = brute.span(value)

    def overlaps(world: brute.World, one: brute.Resource) -> bool:
        return any(at[0] <= high and at[1] >= low for at in brute.dates(one, *places))

    return f"{name} {operator} {quoted(rnd, value)}", overlaps if operator == "po" else equal(name, operator + value)


def string(rnd: random.Random, type: str) -> Tree:
    name = rnd.choice(("family", "given", "name"))
    text = rnd.choice(GIVEN if name == "given" else FAMILIES)
    operator = rnd.choice(("eq", "ne", "co", "sw", "ew"))
    value = text if operator in ("eq", "ne") else text[rnd.randrange(len(text)) :] if operator == "ew" else text[: rnd.randint(1, 3)]
    wanted = brute.folded(value)
    tests: dict[str, Callable[[str], bool]] = {
        "eq": lambda have: have == wanted,
        "ne": lambda have: have == wanted,
        "co": lambda have: wanted in have,
        "sw": lambda have: have.startswith(wanted),
        "ew": lambda have: have.endswith(wanted),
    }

    def judge(world: brute.World, one: brute.Resource) -> bool:
        texts = brute.names(one, name)
        spellings = [brute.folded(text) for text in texts] + [reading for text in texts for reading in brute.spelled(text)]
        hit = any(tests[operator](spelling) for spelling in spellings)
        return bool(texts) and not hit if operator == "ne" else hit

    return f"{name} {operator} {quoted(rnd, value)}", judge


def quantity(rnd: random.Random, type: str) -> Tree:
    name = rnd.choice(("value-quantity", "component-value-quantity"))
    value = rnd.choice(("5.4", "5", "10", "1e2", "5400")) + rnd.choice(("", "|urn:u|mg", f"|{brute.UCUM}|mg", f"|{brute.UCUM}|g", "||g"))
    operator = rnd.choice(("eq", "ne", "gt", "lt", "ge", "le"))
    return f"{name} {operator} {quoted(rnd, value)}", equal(name, operator + value)


def reference(rnd: random.Random, type: str) -> Tree:
    name, value = rnd.choice(("patient", "subject")), rnd.choice(("Patient/", "")) + f"p{rnd.randrange(40)}"
    operator = rnd.choice(("eq", "ne", *(("re",) if "/" in value else ())))
    return f"{name} {operator} {quoted(rnd, value)}", (unequal if operator == "ne" else equal)(name, value)


def presence(rnd: random.Random, type: str) -> Tree:
    names = [name for of, name in (*brute.TOKENS, *brute.DATES) if of == type] + (["name"] if type == "Patient" else ["subject"])
    name, wanted = rnd.choice(names), rnd.random() < 0.5
    return f"{name} pr {'true' if wanted else 'false'}", lambda world, one: present(name)(world, one) is wanted


def identity(rnd: random.Random, type: str) -> Tree:
    value, negative = f"{'p' if type == 'Patient' else 'x'}{rnd.randrange(40)}", rnd.random() < 0.3
    return f"_id {'ne' if negative else 'eq'} {value}", lambda world, one: (one["id"] == value) is not negative


# --- what joins them
def chained(rnd: random.Random, type: str, depth: int) -> Tree:
    link, (text, judge) = rnd.choice(("patient", "subject:Patient")), leaf(rnd, "Patient", depth + 1)
    between = tree(rnd, "Patient", depth + 2) if rnd.random() < 0.4 else None

    def meets(world: brute.World, one: brute.Resource) -> bool:
        target = world.get(brute.referred(one, "subject"))
        return target is not None and judge(world, target) and (between is None or between[1](world, target))

    return f"{link}{f'[{between[0]}]' if between else ''}.{text}", meets


def leaf(rnd: random.Random, type: str, depth: int) -> Tree:
    kinds: list[Any] = [token, token, date, presence, identity]
    kinds += [string, string] if type == "Patient" else [reference]
    kinds += [quantity] if type == "Observation" else []
    return rnd.choice(kinds)(rnd, type)


def tree(rnd: random.Random, type: str, depth: int = 0) -> Tree:
    """A tree, in brackets where the binding of `and` before `or` would not give it."""
    draw = rnd.random()
    if depth < 4 and draw < 0.5:
        word = rnd.choice(("and", "or"))
        parts = [tree(rnd, type, depth + 1) for _ in range(rnd.choice((2, 2, 3)))]
        texts = [f"({text})" if " or " in text or " OR " in text or rnd.random() < 0.2 else text for text, _ in parts]
        judges = [judge for _, judge in parts]
        quantor = all if word == "and" else any
        joint = f" {word if rnd.random() < 0.8 else word.upper()} "
        return joint.join(texts), lambda world, one: quantor(judge(world, one) for judge in judges)
    if depth < 4 and draw < 0.65:
        text, judge = tree(rnd, type, depth + 1)
        return f"not{rnd.choice(('', ' '))}({text})", lambda world, one: not judge(world, one)
    if depth < 3 and draw < 0.75 and type != "Patient":
        return chained(rnd, type, depth)
    return leaf(rnd, type, depth)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[brute.World, httpx.Client]]:
    with populated(tmp_path_factory.mktemp("trees") / "data", RESOURCES) as made:
        yield made


@pytest.mark.longer
def test_trees_find_what_a_look_at_everything_finds(world: tuple[brute.World, httpx.Client]) -> None:
    live, client = world
    rnd = random.Random(SEED + 3)
    hits = 0
    for number in range(TREES):
        type = rnd.choice(("Patient", "Observation", "Observation", "Encounter", "Condition"))
        text, judge = tree(rnd, type)
        answer = client.post(f"{type}/_search", data={"_filter": text, "_count": "1000", "_total": "accurate"})
        assert answer.status_code == 200, (number, text, answer.text)
        found = sorted(entry["resource"]["id"] for entry in answer.json().get("entry", []))
        wanted = sorted(one["id"] for one in live.values() if one["resourceType"] == type and judge(live, one))
        assert found == wanted, (number, type, text)
        assert answer.json()["total"] == len(wanted), (number, type, text)
        hits += 0 < len(wanted) < sum(one["resourceType"] == type for one in live.values())
    assert hits > TREES // 3
