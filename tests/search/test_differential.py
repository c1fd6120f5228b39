"""Random queries over random resources: the server finds what a look at every resource finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import SOAK
from tests.search import brute
from tests.search.random_world import CODES, FAMILIES, GIVEN, SEED, STATUSES, SYSTEMS, moment, populated

RESOURCES, QUERIES = (600, 20_000) if SOAK else (240, 1_500)
QUANTITIES = ("value-quantity", "component-value-quantity")


# --- queries
def token_value(rnd: random.Random, pool: tuple[str, ...]) -> str:
    system, code = rnd.choice(SYSTEMS), rnd.choice(pool)
    forms = [code, f"|{code}"] + ([f"{system}|{code}", f"{system}|"] if system else [])
    return rnd.choice(forms)


def several(rnd: random.Random, make: Any) -> str:
    return ",".join(make() for _ in range(rnd.choice((1, 1, 1, 2, 3))))


def parameter(rnd: random.Random, type: str, depth: int = 0) -> tuple[str, str]:
    kinds = ["token", "date", "id"] + (["string"] * 2 if type == "Patient" else ["reference"])
    kinds += ["quantity", "composite"] if type == "Observation" else []
    if depth < 2:
        kinds += ["has"] if type == "Patient" else ["chain"]
    kind = rnd.choice(kinds)
    if kind == "id":
        return "_id", several(rnd, lambda: rnd.choice((f"p{rnd.randrange(40)}", f"x{rnd.randrange(RESOURCES)}")))
    if kind == "has":
        other = rnd.choice(("Observation", "Encounter", "Condition"))
        name, value = parameter(rnd, other, depth + 1)
        return f"_has:{other}:{rnd.choice(('patient', 'subject'))}:{name}", value
    if kind == "chain":
        name, value = parameter(rnd, "Patient", depth + 1)
        return rnd.choice(("patient", "subject:Patient")) + f".{name}", value
    if kind == "composite":
        base = rnd.choice(brute.COMPOSITES)
        second = (lambda: _quantity(rnd)) if base.endswith("quantity") else (lambda: token_value(rnd, CODES))
        return base, several(rnd, lambda: f"{token_value(rnd, CODES)}${second()}")
    missing = rnd.random() < 0.08
    if kind == "reference":
        base = rnd.choice(("patient", "subject"))
        return (f"{base}:missing", rnd.choice(("true", "false"))) if missing else (base, several(rnd, lambda: _person(rnd)))
    names = {"token": brute.TOKENS, "date": brute.DATES}.get(kind, {})
    base = rnd.choice([name for of, name in names if of == type] or [rnd.choice(QUANTITIES) if kind == "quantity" else _name(rnd)])
    if missing and kind != "quantity":
        return f"{base}:missing", rnd.choice(("true", "false"))
    if kind == "token":
        pool = {"gender": ("male", "female"), "status": STATUSES.get(type, ()), "identifier": tuple(map(str, range(1, 21)))}.get(
            base, CODES
        )
        plain = base in ("gender", "status")
        value = several(rnd, lambda: rnd.choice(pool) if plain else token_value(rnd, pool))
        return base + (":not" if rnd.random() < 0.2 else ""), value
    if kind == "date":
        return base, several(rnd, lambda: rnd.choice(("", *brute.PREFIXES)) + moment(rnd))
    if kind == "quantity":
        return base, several(rnd, lambda: _quantity(rnd))
    modifier = rnd.choice(("", "", ":exact", ":contains"))
    pool = GIVEN if base == "given" else FAMILIES
    return base + modifier, several(rnd, lambda: _text(rnd, rnd.choice(pool), modifier))


def _person(rnd: random.Random) -> str:
    return rnd.choice(("", "Patient/")) + f"p{rnd.randrange(40)}"


def _name(rnd: random.Random) -> str:
    return rnd.choice(("family", "given", "name"))


def _quantity(rnd: random.Random) -> str:
    number = rnd.choice(("5.4", "5", "10", "1e2", "5.35", "10.0", "5400", "0.0054"))
    units = [f"|{brute.UCUM}|{code}" for code in ("mg", "g", "kg", "mm[Hg]")]
    unit = rnd.choice(("", "", "|urn:u|mg", "|urn:u|g", "||mg", *units))
    return rnd.choice(("", "ne", "gt", "lt", "ge", "le")) + number + unit


def _text(rnd: random.Random, text: str, modifier: str) -> str:
    if modifier == ":exact":
        return text
    start = rnd.randrange(len(text)) if modifier else 0
    cut = text[start : start + rnd.randint(1, 4)]
    return (cut.upper() if rnd.random() < 0.3 else cut) if cut.strip("-'") else text


# --- the comparison
@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[brute.World, httpx.Client]]:
    with populated(tmp_path_factory.mktemp("world") / "data", RESOURCES) as made:
        yield made


@pytest.mark.longer
def test_the_server_finds_what_a_look_at_everything_finds(world: tuple[brute.World, httpx.Client]) -> None:
    live, client = world
    rnd = random.Random(SEED + 1)
    hits = 0
    for number in range(QUERIES):
        type = rnd.choice(("Patient", "Observation", "Observation", "Encounter", "Condition"))
        query = [parameter(rnd, type) for _ in range(rnd.choice((1, 1, 2, 3)))]
        url = f"{type}?" + "&".join(f"{name}={quote(value, safe='|,:$')}" for name, value in query)
        answer = client.get(url + "&_count=1000&_total=accurate")
        assert answer.status_code == 200, (url, answer.text)
        bundle = answer.json()
        found = sorted(entry["resource"]["id"] for entry in bundle.get("entry", []))
        wanted = brute.search(live, type, query)
        assert found == wanted, (number, url)
        assert bundle["total"] == len(wanted), (number, url)
        hits += bool(wanted)
    assert hits > QUERIES // 4


def test_pages_together_are_the_whole_list(world: tuple[brute.World, httpx.Client]) -> None:
    live, client = world
    rnd = random.Random(SEED + 2)
    for _ in range(QUERIES // 50):
        type = rnd.choice(("Observation", "Encounter", "Condition"))
        query = [parameter(rnd, type)]
        sort = rnd.choice(("", "&_sort=-_lastUpdated", "&_sort=_id", "&_sort=" + rnd.choice(("", "-")) + _date_of(type)))
        url = f"{type}?" + "&".join(f"{name}={quote(value, safe='|,:$')}" for name, value in query) + sort
        whole = [entry["resource"]["id"] for entry in client.get(url + "&_count=1000").json().get("entry", [])]
        assert sorted(whole) == brute.search(live, type, query)
        following: str | None = url + f"&_count={rnd.choice((1, 3, 7))}"
        pages: list[str] = []
        for _ in range(2 * RESOURCES):
            answer = client.get(following)
            assert answer.status_code == 200, (following, answer.text)
            bundle = answer.json()
            pages += [entry["resource"]["id"] for entry in bundle.get("entry", [])]
            following = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
            if following is None:
                break
        assert pages == whole, url


def _date_of(type: str) -> str:
    return next(name for of, name in brute.DATES if of == type)
