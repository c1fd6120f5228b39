"""Reads and searches of the growth benchmark: how many resources an answer has does not depend on how many are stored."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from benchmarks import growth_population as g
from benchmarks.drive import expect
from benchmarks.growth_client import Answer, Ask, Client, Workload, faults
from benchmarks.population import LOINC, MRN, included, matches

SINGLE, JOINED, SORTED, COUNTS = "Reads and single parameters", "Several parameters, chains, includes", "Sorted", "Counts"
PAGE = 20
PAGES = (1, 10, 100, 1000)
VITAL_SIGNS = f"category={quote(g.CATEGORY)}%7Cvital-signs"

Check = Callable[[Answer], None]
Make = Callable[[random.Random], Ask]


def coded(loinc: str) -> str:
    return f"code={quote(LOINC)}%7C{loinc}"


def rare(p: int) -> str:
    return f"code={quote(g.RARE_SYSTEM)}%7C{g.rare(p)}"


def bundle_of(answer: Answer) -> dict[str, Any]:
    """The Bundle of a search or history."""
    expect(answer.status == 200, str(answer.body[:200]))
    return answer.json()


def ids(answer: Answer) -> list[str]:
    return [resource["id"] for resource in matches(bundle_of(answer))]


def exactly(right: Iterable[str]) -> Check:
    """These resources, each once, in any order."""
    wanted = sorted(right)

    def check(answer: Answer) -> None:
        found = ids(answer)
        expect(sorted(found) == wanted, f"{found[:5]}…, {len(found)} matches; {wanted[:5]}…, {len(wanted)} wanted")

    return check


def in_order(right: list[str]) -> Check:
    def check(answer: Answer) -> None:
        found = ids(answer)
        expect(found == right, f"{found[:5]}…, {right[:5]}… wanted")

    return check


def some(number: int, fits: Callable[[str], bool]) -> Check:
    """So many different resources, each of which fits."""

    def check(answer: Answer) -> None:
        found = ids(answer)
        expect(len(found) == number == len(set(found)) and all(map(fits, found)), f"{found[:5]}…, {len(found)} matches")

    return check


def parted(id: str) -> tuple[int, int]:
    """Person and item of an Observation's id."""
    p, k = id[1:].split("-")
    return int(p), int(k)


def total(wanted: int) -> Check:
    def check(answer: Answer) -> None:
        found = bundle_of(answer).get("total")
        expect(found == wanted, f"total {found}, {wanted} wanted")

    return check


def singles(known: g.Known) -> dict[str, Make]:
    """Reads, and searches by one parameter or by the pair that most clients ask for."""
    people = known.patients

    def read(draw: random.Random) -> Ask:
        p, k = draw.randrange(people), draw.randrange(g.PER_PATIENT - 1)

        def check(answer: Answer) -> None:
            expect(answer.status == 200, str(answer.body[:200]))
            expect({**answer.json(), "meta": None} == {**g.observation(p, k), "meta": None}, "another content than was stored")

        return Ask(f"Observation/g{p}-{k}", check)

    def history(draw: random.Random) -> Ask:
        p, k = draw.randrange(people), draw.randrange(g.PER_PATIENT - 1)

        def check(answer: Answer) -> None:
            entries = bundle_of(answer)["entry"]
            expect([(e["resource"]["id"], e["resource"]["meta"]["versionId"]) for e in entries] == [(f"g{p}-{k}", "1")], "other versions")

        return Ask(f"Observation/g{p}-{k}/_history", check)

    def type_history(draw: random.Random) -> Ask:
        def check(answer: Answer) -> None:
            bundle = bundle_of(answer)
            updated = [entry["resource"]["meta"]["lastUpdated"] for entry in bundle["entry"]]
            expect(len({entry["resource"]["id"] for entry in bundle["entry"]}) == PAGE, f"{len(updated)} entries")
            expect(updated == sorted(updated, reverse=True), "not newest first")
            expect(bundle.get("total", known.observations) == known.observations, f"total {bundle.get('total')}")

        return Ask(f"Observation/_history?_count={PAGE}", check)

    def identifier(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        return Ask(f"Patient?identifier={quote(MRN)}%7CG{p:08d}", exactly([f"g{p}"]))

    def rare_code(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        return Ask(f"Observation?{rare(p)}&_count=50", exactly(f"g{q}-{g.RARE_ITEM}" for q in known.stored(g.sharers(p))))

    def frequent_code(draw: random.Random) -> Ask:
        fits = some(PAGE, lambda id: parted(id)[0] < people and parted(id)[1] < g.FREQUENT_ITEMS)
        return Ask(f"Observation?{coded(g.FREQUENT)}&_count={PAGE}", fits)

    def reference(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        return Ask(f"Observation?subject=Patient/g{p}&_count=50", exactly(f"g{p}-{k}" for k in range(g.PER_PATIENT - 1)))

    def date(draw: random.Random) -> Ask:
        at = draw.randrange(known.observations - PAGE)
        low, high = known.seconds[at], known.seconds[at + PAGE]
        right = ["g{}-{}".format(*g.owner(when)) for when in known.seconds[at : at + PAGE]]
        return Ask(f"Observation?date=ge{g.moment(low)}&date=lt{g.moment(high)}&_count=50", exactly(right))

    def prefix(draw: random.Random) -> Ask:
        # Only those of a last, incomplete group of names would have fewer than twenty namesakes.
        p = draw.randrange(people // g.NAMESAKE_GROUP * g.NAMESAKE_GROUP or people)
        right = (f"g{q}" for q in known.stored(g.namesakes(p)))
        return Ask(f"Patient?family={g.family(p)[:-1]}&_count=50", exactly(right))

    def newest(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        right = known.of_person(p, g.FREQUENT)[:PAGE]
        return Ask(f"Observation?patient=g{p}&{coded(g.FREQUENT)}&_sort=-date&_count={PAGE}", in_order(right))

    return {
        "read": read,
        "history of one resource": history,
        "history of the type, newest 20": type_history,
        "token: identifier, 1 match": identifier,
        "token: rare code, 20 matches": rare_code,
        "token: frequent code, first 20": frequent_code,
        "reference: 49 of one patient": reference,
        "date: 20 matches": date,
        "string: family prefix, 20 matches": prefix,
        "patient + code, newest 20": newest,
    }


def joined(known: g.Known) -> dict[str, Make]:
    """Combinations, chains, _has and includes."""
    people = known.patients
    one_of_six = g.OTHERS[0][0]

    def rare_and_common(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        right = (f"g{q}-{g.RARE_ITEM}" for q in known.stored(g.sharers(p)))
        return Ask(f"Observation?{VITAL_SIGNS}&status=final&{rare(p)}&_count=50", exactly(right))

    def three_common(draw: random.Random) -> Ask:
        fits = some(PAGE, lambda id: parted(id)[1] < g.FREQUENT_ITEMS)
        return Ask(f"Observation?{VITAL_SIGNS}&status=final&{coded(g.FREQUENT)}&_count={PAGE}", fits)

    def common_and_date(draw: random.Random) -> Ask:
        at = draw.randrange(known.observations - 2 * PAGE)
        low, high = known.seconds[at], known.seconds[at + 2 * PAGE]
        items = (g.owner(when) for when in known.seconds[at : at + 2 * PAGE])
        right = (f"g{p}-{k}" for p, k in items if k < g.FREQUENT_ITEMS)
        return Ask(f"Observation?{coded(g.FREQUENT)}&date=ge{g.moment(low)}&date=lt{g.moment(high)}&_count=50", exactly(right))

    def chained(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        right = (id for q in known.stored(g.relatives(p)) for id in known.of_person(q, one_of_six))
        return Ask(f"Observation?patient.family={g.family(p)}&{coded(one_of_six)}&_count=50", exactly(right))

    def chained_wide(draw: random.Random) -> Ask:
        fits = some(PAGE, lambda id: parted(id)[0] % 2 == 1 and parted(id)[1] < g.FREQUENT_ITEMS)
        return Ask(f"Observation?patient.gender=female&{coded(g.FREQUENT)}&_count={PAGE}", fits)

    def has(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        right = (f"g{q}" for q in known.stored(g.relatives(p)) if g.occasional(q))
        return Ask(f"Patient?family={g.family(p)}&_has:Observation:patient:{coded(g.OCCASIONAL)}", exactly(right))

    def has_wide(draw: random.Random) -> Ask:
        fits = some(PAGE, lambda id: g.occasional(int(id[1:])))
        return Ask(f"Patient?_has:Observation:patient:{coded(g.OCCASIONAL)}&_count={PAGE}", fits)

    def include(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        persons = known.stored(g.sharers(p))
        first = exactly(f"g{q}-{g.RARE_ITEM}" for q in persons)

        def check(answer: Answer) -> None:
            first(answer)
            found = sorted(resource["id"] for resource in included(answer.json()))
            expect(found == sorted(f"g{q}" for q in persons), f"included {found[:5]}…")

        return Ask(f"Observation?{rare(p)}&_include=Observation:patient&_count=50", check)

    def revinclude(draw: random.Random) -> Ask:
        p = draw.randrange(people)
        first = exactly([f"g{p}"])

        def check(answer: Answer) -> None:
            first(answer)
            found = sorted(resource["id"] for resource in included(answer.json()))
            expect(found == sorted(f"g{p}-{k}" for k in range(g.PER_PATIENT - 1)), f"included {found[:5]}…")

        return Ask(f"Patient?identifier={quote(MRN)}%7CG{p:08d}&_revinclude=Observation:patient", check)

    return {
        "rare AND two common, 20 matches": rare_and_common,
        "three common, first 20": three_common,
        "common AND date, about 20 matches": common_and_date,
        "chained: one family, about 16 matches": chained,
        "chained: half of all patients, first 20": chained_wide,
        "_has: one family, 1 match": has,
        "_has: a quarter of all patients, first 20": has_wide,
        "_include: 20 + 20": include,
        "_revinclude: 1 + 49": revinclude,
    }


def counts(known: g.Known) -> dict[str, Make]:
    """Totals: what these touch may grow with the store, their answer does not."""

    def fixed(query: str, wanted: int) -> Make:
        ask = Ask(query, total(wanted))
        return lambda draw: ask

    def rare_code(draw: random.Random) -> Ask:
        p = draw.randrange(known.patients)
        return Ask(f"Observation?{rare(p)}&_summary=count", total(len(known.stored(g.sharers(p)))))

    middle = g.SPAN // 2
    frequent = f"Observation?{coded(g.FREQUENT)}"
    return {
        "count: all Observations": fixed("Observation?_summary=count", known.observations),
        "count: one code, 98 % of the store": fixed(f"Observation?{VITAL_SIGNS}&_summary=count", known.observations),
        "count: one code, 48 % of the store": fixed(f"{frequent}&_summary=count", known.frequent),
        "count: rare code, 20": rare_code,
        "_total=accurate: 48 % of the store": fixed(f"{frequent}&_count={PAGE}&_total=accurate", known.frequent),
        "count: code AND date, 24 % of the store": fixed(
            f"{frequent}&date=ge{g.moment(middle)}&_summary=count", known.frequent_from(middle)
        ),
        "count: two codes, 48 % of the store": fixed(f"{frequent}&{VITAL_SIGNS}&_summary=count", known.frequent),
        "count: patients with a code, _has": fixed(
            f"Patient?_has:Observation:patient:{coded(g.OCCASIONAL)}&_summary=count", known.occasional
        ),
    }


Order = Callable[[list[str]], Any]


def pages(base: str, query: str, right: list[list[str]], wanted: Iterable[int], order: Order) -> tuple[dict[int, Ask], list[str]]:
    """Requests of some pages of a search, and faults: every page on the way is checked, the same ids as `right` after `order`."""
    found: dict[int, Ask] = {}
    wrong: list[str] = []
    last = max((number for number in wanted if number <= len(right)), default=0)
    url = query
    with Client(base) as client:
        for number in range(1, last + 1):

            def check(answer: Answer, number: int = number) -> None:
                there = ids(answer)
                expect(order(there) == order(right[number - 1]), f"page {number}: {there[:5]}…, {right[number - 1][:5]}… wanted")

            ask = Ask(url, check)
            answer = client.ask(ask)
            wrong += faults(ask, answer)
            if wrong:
                break
            if number in wanted:
                found[number] = ask
            following = [link["url"] for link in answer.json()["link"] if link["relation"] == "next"]
            if number < last and not following:
                wrong.append(f"page {number} of {query} has no next page")
                break
            url = following[0] if following else ""
    return found, wrong


def families(ids: list[str]) -> tuple[int, list[str]]:
    """How many, and their names in order: who bear the same name may come in any order."""
    return len(set(ids)), [g.family(int(id[1:])) for id in ids]


def sliced(ids: list[str]) -> list[list[str]]:
    """Whole pages."""
    return [ids[at : at + PAGE] for at in range(0, len(ids) - PAGE + 1, PAGE)]


def sorted_searches(base: str, known: g.Known) -> tuple[list[Workload], list[str]]:
    """Pages by the clinical date along an index, and by names; and what was wrong on the way to them."""
    made: dict[str, Make] = {}

    def fixed(name: str, ask: Ask) -> None:
        made[name] = lambda draw: ask

    right = sliced(known.newest(PAGE * max(PAGES), g.FREQUENT))
    query = f"Observation?{coded(g.FREQUENT)}&_sort=-date&_count={PAGE}"
    by_date, wrong = pages(base, query, right, PAGES, list)
    for number, ask in by_date.items():
        fixed(f"one code by date, page {number:,}", ask)
    fixed("all Observations by date, page 1", Ask(f"Observation?_sort=-date&_count={PAGE}", in_order(known.newest(PAGE))))
    of_women = in_order(known.newest(PAGE, g.FREQUENT, women_only=True))
    chain = f"Observation?{coded(g.FREQUENT)}&patient.gender=female&_sort=-date&_count={PAGE}"
    fixed("code of half of all patients by date, page 1", Ask(chain, of_women))
    names = sliced([f"g{p}" for p in sorted(range(known.patients), key=g.family)])
    by_name, more = pages(base, f"Patient?_sort=family&_count={PAGE}", names, (1, 10), families)
    for number, ask in by_name.items():
        fixed(f"all patients by family, page {number}", ask)
    return [Workload(name, SORTED, make) for name, make in made.items()], wrong + more


def workloads(known: g.Known) -> list[Workload]:
    """All but those that must be walked to first."""
    found = [Workload(name, SINGLE, make, cold=name.startswith("patient + code")) for name, make in singles(known).items()]
    found += [Workload(name, JOINED, make) for name, make in joined(known).items()]
    return found + [Workload(name, COUNTS, make, cold=True) for name, make in counts(known).items()]
