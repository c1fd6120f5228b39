"""Random criteria over random resources: the store finds what a plain evaluation of the algebra finds.

The evaluator below reads the definitions in `search/query.py` literally, over lists in memory.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from fhir_server.search import query as q
from fhir_server.search.values import MAX_INSTANT, MIN_INSTANT, IndexValues
from fhir_server.storage.port import Store, Unit
from tests.contract import support as s

CODES = ["a", "b", "c", "d"]
SYSTEMS = ["", "http://loinc.org", "http://snomed.info/sct"]
NAMES = ["Li", "Wang", "WANG", "Wangari", "王", "王小明", "Ng", "Álvarez", "de la Cruz"]


class World:
    """Resources in memory, newest last."""

    def __init__(self) -> None:
        self.live: dict[tuple[str, str], tuple[int, int, IndexValues]] = {}
        self._found: dict[tuple[str, q.Criterion], set[str]] = {}

    def of(self, type: str) -> list[tuple[str, int, int, IndexValues]]:
        return [(id, rid, updated, values) for (t, id), (rid, updated, values) in self.live.items() if t == type]

    def matches(self, type: str, c: q.Criterion) -> set[str]:
        if (type, c) not in self._found:
            self._found[type, c] = {id for id, _, updated, values in self.of(type) if self.test(type, id, updated, values, c)}
        return self._found[type, c]

    def changed(self) -> None:
        self._found.clear()

    def test(self, type: str, id: str, updated: int, v: IndexValues, c: q.Criterion) -> bool:
        match c:
            case q.Everything():
                return True
            case q.Nothing():
                return False
            case q.And(parts):
                return all(self.test(type, id, updated, v, part) for part in parts)
            case q.Or(parts):
                return any(self.test(type, id, updated, v, part) for part in parts)
            case q.Not(part):
                return not self.test(type, id, updated, v, part)
            case q.Ids(ids):
                return id in ids
            case q.KeyMatch(parameter, space, value):
                return any(k.parameter == parameter and space in (None, k.space) and value in (None, k.value) for k in v.keys)
            case q.TextMatch(parameter, text, mode):
                tests = {
                    "prefix": lambda t: t.folded.startswith(text),
                    "contains": lambda t: text in t.folded,
                    "exact": lambda t: t.exact == text,
                }
                return any(t.parameter == parameter and tests[mode](t) for t in v.texts)
            case q.RangeMatch():
                return any(r.parameter == c.parameter and self.within(c, r) for r in v.ranges)
            case q.Present(parameter):
                return any(item.parameter == parameter for item in [*v.keys, *v.texts, *v.ranges])
            case q.Updated(low, high):
                return (low is None or updated >= low) and (high is None or updated <= high)
            case q.Chain(parameter, targets):
                wanted = {(t, i) for t, inner in targets for i in self.matches(t, inner)}
                return any(k.parameter == parameter and (k.space, k.value) in wanted for k in v.keys)
            case q.Has(source, parameter, part):
                found = self.matches(source, part)
                return any(
                    i in found and any(k.parameter == parameter and (k.space, k.value) == (type, id) for k in w.keys)
                    for i, _, _, w in self.of(source)
                )
        raise AssertionError(c)

    @staticmethod
    def within(c: q.RangeMatch, r: Any) -> bool:
        if (c.space is not None and c.space != r.space) or (c.value is not None and c.value != r.value):
            return False
        limits = (
            ("low_min", r.low, c.low_min),
            ("low_max", r.low, c.low_max),
            ("high_min", r.high, c.high_min),
            ("high_max", r.high, c.high_max),
        )
        for name, value, limit in limits:
            if limit is None:
                continue
            if name in c.strict and value == limit:
                return False
            if (value < limit) if name.endswith("min") else (value > limit):
                return False
        return True


def random_dates(rnd: random.Random) -> tuple[int, int]:
    start = rnd.randrange(0, 4000) * s.DAY // 10
    length = rnd.choice([0, 999, 59_999, s.DAY - 1, s.DAY - 1, 31 * s.DAY - 1, 366 * s.DAY - 1, 5000 * s.DAY])
    if rnd.random() < 0.04:
        return (MIN_INSTANT, start) if rnd.random() < 0.5 else (start, MAX_INSTANT)
    return start, start + length


def random_resource(rnd: random.Random, type: str, id: str) -> dict[str, Any]:
    keys: list[Any] = []
    texts: list[Any] = []
    ranges: list[Any] = []
    given: dict[str, Any] = {"keys": keys, "texts": texts, "ranges": ranges}

    def clinical(parameter: int) -> None:
        for at in range(rnd.choice([0, 1, 1, 1, 1, 1, 2])):
            low, high = random_dates(rnd)
            if at == 0:
                given["clinical"] = low
            ranges.append([parameter, "", "", low, high])

    if type == "Patient":
        texts += [[s.PAT_FAMILY, rnd.choice(NAMES)] for _ in range(rnd.choice([0, 1, 1, 2]))]
        texts += [[s.PAT_GIVEN, rnd.choice(NAMES)] for _ in range(rnd.choice([0, 1, 2]))]
        keys += [[s.PAT_IDENTIFIER, rnd.choice(SYSTEMS), rnd.choice(CODES) + str(rnd.randrange(20))] for _ in range(rnd.choice([0, 1, 2]))]
        keys.append([s.PAT_GENDER, "g", rnd.choice(["male", "female"])])
        if rnd.random() < 0.5:
            ranges.append([s.PAT_BIRTH, "", "", *random_dates(rnd)])
        if rnd.random() < 0.5:
            keys.append([s.PAT_ORG, "Organization", f"o{rnd.randrange(4)}"])
        for _ in range(rnd.choice([0, 1, 2])):
            value = rnd.choice([1.0, 5.4, 1000.0])
            ranges.append([s.PAT_SCORE, "", "", value - 0.05, value + 0.05])
    elif type in ("Observation", "Condition"):
        code, subject, date = (s.OBS_CODE, s.OBS_SUBJECT, s.OBS_DATE) if type == "Observation" else (s.CON_CODE, s.CON_SUBJECT, s.CON_ONSET)
        keys += [[code, rnd.choice(SYSTEMS), rnd.choice(CODES)] for _ in range(rnd.choice([1, 1, 2]))]
        if rnd.random() < 0.9:
            keys.append([subject, rnd.choice(["Patient", "Patient", "Patient", "Organization"]), f"p{rnd.randrange(12)}"])
        clinical(date)
        if type == "Observation":
            if rnd.random() < 0.4:
                keys.append([s.OBS_ENCOUNTER, "Encounter", f"e{rnd.randrange(10)}"])
            for _ in range(rnd.choice([0, 1, 1, 2])):
                value = rnd.choice([0.001, 1.0, 5.4, 140.0, 1e6])
                unit = rnd.choice([("", ""), ("u", "mg"), ("u", "g"), ("w", "mg")])
                precision = rnd.choice([1e-4, 0.05, 0.5, 50.0])
                ranges.append([s.OBS_VALUE, *unit, value - precision, value + precision])
    elif type == "Encounter":
        keys.append([s.ENC_SUBJECT, "Patient", f"p{rnd.randrange(12)}"])
        clinical(s.ENC_DATE)
    else:
        texts.append([s.ORG_NAME, rnd.choice(NAMES)])
    for name in ("keys", "texts", "ranges"):
        given[name] = [list(item) for item in dict.fromkeys(map(tuple, given[name]))]
    return {"resourceType": type, "id": id, "index": given, "n": rnd.random()}


def random_range(rnd: random.Random, parameter: int, quantity: bool) -> q.Criterion:
    if quantity:
        value = rnd.choice([0.001, 1.0, 5.4, 140.0, 1e6])
        precision = rnd.choice([1e-4, 0.05, 0.5])
        low, high = value - precision, value + precision
        unit: dict[str, Any] = rnd.choice(
            [{}, {"space": "u", "value": "mg"}, {"space": "u", "value": "g"}, {"value": "mg"}, {"space": "", "value": ""}, {"space": "u"}]
        )
    else:
        low, high = random_dates(rnd)
        unit = {}
    eq = q.RangeMatch(parameter, low_min=low, high_max=high, **unit)
    gt = q.RangeMatch(parameter, high_min=high, strict=frozenset({"high_min"}), **unit)
    lt = q.RangeMatch(parameter, low_max=low, strict=frozenset({"low_max"}), **unit)
    return rnd.choice(
        [
            eq,
            gt,
            lt,
            q.Or((gt, eq)),
            q.Or((lt, eq)),
            q.RangeMatch(parameter, low_min=high, strict=frozenset({"low_min"}), **unit),
            q.RangeMatch(parameter, high_max=low, strict=frozenset({"high_max"}), **unit),
            q.RangeMatch(parameter, low_max=high, high_min=low, **unit),
            q.Not(eq),
        ]
    )


def random_key(rnd: random.Random, parameter: int, spaces: list[str], values: list[str]) -> q.Criterion:
    space, value = rnd.choice(spaces), rnd.choice(values)
    return rnd.choice([q.KeyMatch(parameter, space, value)] * 3 + [q.KeyMatch(parameter, None, value), q.KeyMatch(parameter, space, None)])


def random_criterion(rnd: random.Random, type: str, depth: int) -> q.Criterion:
    if depth > 0 and rnd.random() < 0.55:
        parts = tuple(random_criterion(rnd, type, depth - 1) for _ in range(rnd.choice([1, 2, 2, 3])))
        return rnd.choice([q.And(parts), q.And(parts), q.And(parts), q.Or(parts), q.Not(parts[0])])
    people = [f"p{n}" for n in range(12)]
    common = [
        q.Everything(),
        q.Nothing(),
        q.Ids((f"{type[0].lower()}{rnd.randrange(12)}", "nobody")),
        q.Updated(1000 + rnd.randrange(40), None),
    ]
    if rnd.random() < 0.08:
        return rnd.choice(common)
    deeper = depth - 1
    if type == "Patient":
        makers = [
            lambda: q.TextMatch(s.PAT_FAMILY, rnd.choice(["w", "wang", "王", "li", "x", ""]), rnd.choice(["prefix", "contains"])),
            lambda: q.TextMatch(s.PAT_GIVEN, rnd.choice(NAMES), "exact"),
            lambda: random_key(rnd, s.PAT_IDENTIFIER, SYSTEMS, [c + str(n) for c in CODES for n in range(20)]),
            lambda: random_key(rnd, s.PAT_GENDER, ["g"], ["male", "female"]),
            lambda: random_range(rnd, s.PAT_BIRTH, False),
            lambda: random_range(rnd, s.PAT_SCORE, True),
            lambda: q.Present(rnd.choice([s.PAT_FAMILY, s.PAT_ORG, s.PAT_BIRTH, s.PAT_SCORE, 99])),
            lambda: q.Chain(s.PAT_ORG, (("Organization", random_criterion(rnd, "Organization", deeper)),)),
            lambda: q.Has("Observation", s.OBS_SUBJECT, random_criterion(rnd, "Observation", deeper)),
            lambda: q.Has("Condition", s.CON_SUBJECT, random_criterion(rnd, "Condition", deeper)),
        ]
    elif type in ("Observation", "Condition"):
        code, subject, date = (s.OBS_CODE, s.OBS_SUBJECT, s.OBS_DATE) if type == "Observation" else (s.CON_CODE, s.CON_SUBJECT, s.CON_ONSET)
        makers = [
            lambda: random_key(rnd, code, SYSTEMS, CODES),
            lambda: q.Or(tuple(q.KeyMatch(code, rnd.choice(SYSTEMS), rnd.choice(CODES)) for _ in range(2))),
            lambda: q.KeyMatch(subject, "Patient", rnd.choice(people)),
            lambda: random_key(rnd, subject, ["Patient", "Organization"], people),
            lambda: random_range(rnd, date, False),
            lambda: q.And((q.KeyMatch(code, "", rnd.choice(CODES)), random_range(rnd, date, False), random_range(rnd, date, False))),
            lambda: q.Chain(
                subject,
                (("Patient", random_criterion(rnd, "Patient", deeper)), ("Organization", random_criterion(rnd, "Organization", deeper)))[
                    : rnd.choice([1, 2])
                ],
            ),
            lambda: q.Present(rnd.choice([date, subject, code])),
        ]
        if type == "Observation":
            makers += [
                lambda: random_range(rnd, s.OBS_VALUE, True),
                lambda: q.Present(s.OBS_VALUE),
                lambda: q.Chain(s.OBS_ENCOUNTER, (("Encounter", random_criterion(rnd, "Encounter", deeper)),)),
            ]
    elif type == "Encounter":
        makers = [
            lambda: random_range(rnd, s.ENC_DATE, False),
            lambda: q.KeyMatch(s.ENC_SUBJECT, "Patient", rnd.choice(people)),
            lambda: q.Has("Observation", s.OBS_ENCOUNTER, random_criterion(rnd, "Observation", deeper)),
        ]
    else:
        makers = [lambda: q.TextMatch(s.ORG_NAME, rnd.choice(["w", "王"]), "prefix"), lambda: q.Present(s.ORG_NAME)]
    return rnd.choice(makers)()


async def populate(store: Store, rnd: random.Random, world: World, rounds: int, clock: list[int]) -> None:
    """Creates, updates and deletes in units of several writes."""
    sizes = {"Patient": 12, "Organization": 12, "Observation": 150, "Condition": 60, "Encounter": 12}
    for _ in range(rounds):
        clock[0] += rnd.randrange(3)
        writes = {}
        for _ in range(rnd.randrange(1, 12)):
            type = rnd.choice(["Observation"] * 5 + ["Condition"] * 2 + ["Patient", "Encounter", "Organization"])
            id = f"{type[0].lower()}{rnd.randrange(sizes[type])}"
            resource = random_resource(rnd, type, id)
            writes[(type, id)] = s.delete(type, id) if rnd.random() < 0.12 else s.put(resource)
        commit = await store.transact(Unit.of(*writes.values()))
        for (at, write), outcome in zip(writes.items(), commit.outcomes, strict=True):
            if write.method == "DELETE":
                world.live.pop(at, None)
            elif outcome.stored:
                world.live[at] = (outcome.stored.rid, outcome.stored.updated, s.index(write.resource))


async def pages(store: Store, query: q.Query) -> tuple[list[str], list[int | None]]:
    found, totals, after = [], [], None
    while True:
        page = await store.search(query, after)
        found += s.ids(page.items)
        totals.append(page.total)
        after = page.next
        if after is None:
            return found, totals


SEEDS = range(40 if os.environ.get("SOAK") == "1" else 3)


def colliding(text: str) -> int:
    """Two bits of a hash: nearly all terms collide."""
    return sum(text.encode()) & 3


@pytest.mark.longer
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hash64", [None, colliding], ids=["keyed", "colliding"])
async def test_finds_what_a_literal_evaluation_finds(open_store: Any, seed: int, hash64: Any) -> None:
    rnd = random.Random(seed)
    clock = [1000]
    store = await open_store(clock=lambda: clock[0], hash64=hash64)
    world = World()
    for _ in range(4):
        await populate(store, rnd, world, 20, clock)
        world.changed()
        for _ in range(60):
            type = rnd.choice(s.TYPES)
            where = random_criterion(rnd, type, 3)
            wanted = world.matches(type, where)
            found, totals = await pages(store, q.Query((type,), where, limit=rnd.choice([1, 7, 50]), total="accurate"))
            by_rid = sorted(wanted, key=lambda id: -world.live[(type, id)][0])
            assert found == by_rid, where
            assert set(totals) == {len(wanted)}, where
            assert await store.count(q.Query((type,), where)) == len(wanted), where
