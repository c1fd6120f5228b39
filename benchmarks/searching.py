"""W3 (single parameters), W4 (mixed queries), W7 (counts) and W11 (chain, _has, _include, sorted pages), with answers known beforehand."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable
from urllib.parse import quote

from benchmarks.drive import Operation, Worker, expect
from benchmarks.population import DAYS, EPOCH, FAMILIES, LOINC, MRN, SNOMED, VITALS, Population, included, matches

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")

Ask = Callable[[Worker], tuple[str, int]]
"""A query of random values, and the number of matches that it must have (before paging)."""


class Answers:
    """Right answers, counted from the population."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.by_family: dict[str, list[int]] = defaultdict(list)
        self.by_code_day: Counter[tuple[int, int]] = Counter()
        self.by_family_problem: Counter[tuple[str, str]] = Counter()
        self.by_code_value: Counter[tuple[int, int]] = Counter()
        self.moments: dict[int, list[dt.datetime]] = defaultdict(list)
        for p in range(population.patients):
            self.by_family[population.family(p)].append(p)
            self.by_family_problem[population.family(p), population.problem(p)] += 1
            for k in range(population.observations):
                self.by_code_day[population.code(k), (population.when(p, k) - EPOCH).days] += 1
                self.by_code_value[population.code(k), population.value(p, k)] += 1
                self.moments[population.code(k)].append(population.when(p, k))
        for moments in self.moments.values():
            moments.sort()

    def of_moment(self, code: int, prefix: str, moment: dt.datetime) -> int:
        """Observations of a code for `date=<prefix><second>`; theirs are seconds, too."""
        moments = self.moments[code]
        before, through = bisect_left(moments, moment), bisect_right(moments, moment)
        at, after = through - before, len(moments) - through
        numbers = {"eq": at, "ne": len(moments) - at, "lt": before, "eb": before, "le": through, "ge": at + after, "gt": after, "sa": after}
        return numbers[prefix]

    def of_code(self, code: int) -> int:
        """Observations of one code that each patient has."""
        return sum(self.population.code(k) == code for k in range(self.population.observations))


def _page(name: str, count: int = 50) -> Callable[[Ask], Operation]:
    def make(ask: Ask) -> Operation:
        async def operation(worker: Worker) -> None:
            query, wanted = ask(worker)
            answer = await worker.connection.request("GET", f"{query}&_count={count}")
            expect(answer.status == 200, f"{name}: {answer.status} {answer.body[:200]!r}")
            bundle = answer.json()
            found = matches(bundle)
            expect(len(found) == min(wanted, count), f"{name}: {query}: {len(found)} matches, {min(wanted, count)} wanted")
            if "_total=accurate" in query:
                expect(bundle.get("total") == wanted, f"{name}: {query}: total {bundle.get('total')}, {wanted} wanted")
            if "_include=Observation:patient" in query and found:
                expect([r["resourceType"] for r in included(bundle)] == ["Patient"], f"{name}: the Patient was not included once")

        return operation

    return make


def single_parameters(population: Population, answers: Answers) -> dict[str, Operation]:
    """W3: one parameter (and a code beside dates), values drawn from the data."""
    person = population.patient_id

    def token(worker: Worker) -> tuple[str, int]:
        p = worker.draw.randrange(population.patients)
        return f"Patient?identifier={quote(MRN)}%7C{population.tag}M{p:07d}", 1

    def text(worker: Worker) -> tuple[str, int]:
        family = population.family(worker.draw.randrange(population.patients))
        return f"Patient?family={family[:-1]}", sum(len(answers.by_family[name]) for name in FAMILIES if name.startswith(family[:-1]))

    def reference(worker: Worker) -> tuple[str, int]:
        return f"Observation?subject=Patient/{person(worker.draw.randrange(population.patients))}", population.observations

    def day(worker: Worker) -> tuple[str, int]:
        code, start = worker.draw.randrange(len(VITALS)), worker.draw.randrange(DAYS)
        first = (EPOCH + dt.timedelta(days=start)).strftime("%Y-%m-%dT%H:%M:%SZ")
        last = (EPOCH + dt.timedelta(days=start + 1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = answers.by_code_day[code, start]
        return f"Observation?code={quote(LOINC)}%7C{VITALS[code][0]}&date=ge{first}&date=lt{last}", wanted

    def prefixes(worker: Worker) -> tuple[str, int]:
        k = worker.draw.randrange(population.observations)
        moment, code = population.when(worker.draw.randrange(population.patients), k), population.code(k)
        prefix = PREFIXES[worker.count % len(PREFIXES)]
        query = f"Observation?code={quote(LOINC)}%7C{VITALS[code][0]}&date={prefix}{moment:%Y-%m-%dT%H:%M:%SZ}"
        return query, answers.of_moment(code, prefix, moment)

    def measured(worker: Worker) -> tuple[tuple[int, int], str]:
        """Code and value of a simple measurement, and the value with its unit, which no other code has."""
        code = worker.draw.randrange(len(VITALS) - 1)
        value = VITALS[code][2] + worker.draw.randrange(VITALS[code][3])
        return (code, value), f"{value}%7Chttp://unitsofmeasure.org%7C{quote(VITALS[code][1], safe='')}"

    def quantity(worker: Worker) -> tuple[str, int]:
        code, value = measured(worker)
        return f"Observation?value-quantity={value}", answers.by_code_value[code]

    def composite(worker: Worker) -> tuple[str, int]:
        code, value = measured(worker)
        return f"Observation?code-value-quantity={quote(LOINC)}%7C{VITALS[code[0]][0]}${value}", answers.by_code_value[code]

    asks = {
        "token": token,
        "string": text,
        "reference": reference,
        "date ge and lt": day,
        "date, eight prefixes in turn": prefixes,
        "quantity": quantity,
        "composite": composite,
    }
    return {f"W3 {name}": _page(name)(ask) for name, ask in asks.items()}


def mixed(population: Population, answers: Answers) -> Operation:
    """W4: thirty queries in turn, as EMRs ask them."""

    def patient_code(extra: str) -> Ask:
        def ask(worker: Worker) -> tuple[str, int]:
            p, code = worker.draw.randrange(population.patients), worker.draw.randrange(len(VITALS))
            base = f"Observation?patient={population.patient_id(p)}&code={quote(LOINC)}%7C{VITALS[code][0]}&date=lt2026-01-01"
            return base + extra, answers.of_code(code)

        return ask

    def family(worker: Worker) -> tuple[str, int]:
        name = population.family(worker.draw.randrange(population.patients))
        return f"Patient?family={name}&_total=accurate", len(answers.by_family[name])

    def conditions(worker: Worker) -> tuple[str, int]:
        p = worker.draw.randrange(population.patients)
        return f"Condition?patient={population.patient_id(p)}&code={quote(SNOMED)}%7C{population.problem(p)}", 1

    forms = [
        "",
        "&_sort=-date",
        "&_sort=date",
        "&_total=accurate",
        "&_include=Observation:patient",
        "&_elements=code,valueQuantity",
        "&_summary=true",
    ]
    asks: list[Ask] = [patient_code(form) for form in forms] + [family, conditions, patient_code("&status=final&category=vital-signs")]
    operations = [_page(f"mixed {k}")(ask) for k, ask in enumerate(asks * 3)]

    async def operation(worker: Worker) -> None:
        await operations[worker.count % len(operations)](worker)

    return operation


def counts(population: Population, answers: Answers) -> dict[str, Operation]:
    """W7: `_summary=count` by code, alone and with a second criterion."""

    def operation_of(more: str) -> Operation:
        async def operation(worker: Worker) -> None:
            code = worker.draw.randrange(len(VITALS))
            query = f"Observation?code={quote(LOINC)}%7C{VITALS[code][0]}{more}&_summary=count"
            answer = await worker.connection.request("GET", query)
            expect(answer.status == 200, f"{query}: {answer.status} {answer.body[:200]!r}")
            wanted = population.patients * answers.of_code(code)
            total = answer.json().get("total")
            expect(total == wanted, f"{query}: total {total}, {wanted} wanted")

        return operation

    return {"W7 count by code": operation_of(""), "W7 count by code and date": operation_of("&date=lt2026-01-01")}


def joined(population: Population, answers: Answers) -> dict[str, Operation]:
    """W11: one hop forward and back, and includes."""

    def chain(worker: Worker) -> tuple[str, int]:
        p, code = worker.draw.randrange(population.patients), worker.draw.randrange(len(VITALS))
        return (
            f"Observation?subject:Patient.identifier={quote(MRN)}%7C{population.tag}M{p:07d}&code={VITALS[code][0]}&date=lt2026-01-01",
            answers.of_code(code),
        )

    def has(worker: Worker) -> tuple[str, int]:
        p = worker.draw.randrange(population.patients)
        key = population.family(p), population.problem(p)
        return f"Patient?family={key[0]}&_has:Condition:patient:code={quote(SNOMED)}%7C{key[1]}", answers.by_family_problem[key]

    def include(worker: Worker) -> tuple[str, int]:
        p, code = worker.draw.randrange(population.patients), worker.draw.randrange(len(VITALS))
        patient = population.patient_id(p)
        return f"Observation?patient={patient}&code={VITALS[code][0]}&date=lt2026-01-01&_include=Observation:patient", answers.of_code(code)

    return {f"W11 {name}": _page(name)(ask) for name, ask in {"chain": chain, "_has": has, "_include": include}.items()}


def sorted_pages(population: Population, pages: tuple[int, ...] = (1, 10, 100, 1000), count: int = 10) -> dict[str, Operation]:
    """W11: the n-th page of `Observation?code=…&_sort=-date`; the way there is walked once a worker and not counted."""

    def at(page: int) -> Operation:
        async def operation(worker: Worker) -> None:
            here = worker.memory.get("link")
            if here is None:
                here = f"Observation?code={quote(LOINC)}%7C{VITALS[0][0]}&date=lt2026-01-01&_sort=-date&_count={count}"
                for _ in range(page - 1):
                    bundle = (await worker.connection.request("GET", str(here))).json()
                    here = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
                    expect(here is not None, f"page {page} does not exist")
                worker.memory["link"] = here
            answer = await worker.connection.request("GET", str(here))
            expect(answer.status == 200, f"page {page}: {answer.status}")
            dates = [dt.datetime.fromisoformat(r["effectiveDateTime"]) for r in matches(answer.json())]
            expect(len(dates) == count and dates == sorted(dates, reverse=True), f"page {page}: {len(dates)} rows, or not sorted")

        return operation

    total = population.patients * len([k for k in range(population.observations) if population.code(k) == 0])
    return {f"W11 page {page}": at(page) for page in pages if page * count <= total}
