"""Random patients, observations, encounters and conditions on a server, some of them changed and some deleted again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import start_server
from tests.search import brute

SEED = 20260301
FAMILIES = ("Chalmers", "chalmers-Smith", "Núñez", "Nunes", "Li", "Ли", "张", "章", "O'Brien", "Ångström", "angstrom")
GIVEN = ("Ann", "Anna", "José", "Wei", "伟", "X")
SYSTEMS = ("urn:a", "urn:b", "")
CODES = ("1-8", "8480-6", "8867-4", "local", "LOCAL")
UNITS = (("urn:u", "mg"), ("urn:u", "g"), ("", "mg"), (brute.UCUM, "mg"), (brute.UCUM, "g"), (brute.UCUM, "kg"), (brute.UCUM, "mm[Hg]"))
STATUSES = {"Observation": ("final", "preliminary", "amended"), "Encounter": ("planned", "finished", "in-progress")}


def moment(rnd: random.Random) -> str:
    """A date or dateTime of any precision."""
    year, month, day = rnd.choice((2022, 2023, 2024)), rnd.randint(1, 12), rnd.randint(1, 28)
    forms = (
        f"{year}",
        f"{year}-{month:02}",
        f"{year}-{month:02}-{day:02}",
        f"{year}-{month:02}-{day:02}T{rnd.randint(0, 23):02}:{rnd.randint(0, 59):02}:{rnd.randint(0, 59):02}Z",
        f"{year}-{month:02}-{day:02}T{rnd.randint(0, 23):02}:30:00+08:00",
        f"{year}-{month:02}-{day:02}T12:00:00.{rnd.randint(0, 999):03}Z",
    )
    return rnd.choice(forms)


def coding(rnd: random.Random) -> dict[str, str]:
    system = rnd.choice(SYSTEMS)
    return {**({"system": system} if system else {}), "code": rnd.choice(CODES)}


def concept(rnd: random.Random) -> dict[str, Any]:
    return {"coding": [coding(rnd) for _ in range(rnd.choice((1, 1, 2)))]} if rnd.random() < 0.9 else {"text": "words"}


def period(rnd: random.Random) -> dict[str, str]:
    ends = sorted((moment(rnd), moment(rnd)), key=lambda text: brute.span(text)[0])
    if brute.span(ends[0])[0] > brute.span(ends[1])[1]:
        ends.reverse()
    made = {"start": ends[0], "end": ends[1]}
    if rnd.random() < 0.3:
        del made[rnd.choice(("start", "end"))]
    return made


def patient(rnd: random.Random, id: str) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": "Patient", "id": id}
    if rnd.random() < 0.9:
        made["name"] = [
            {"family": rnd.choice(FAMILIES), "given": rnd.sample(GIVEN, rnd.choice((1, 2)))} for _ in range(rnd.choice((1, 1, 2)))
        ]
    if rnd.random() < 0.7:
        made["gender"] = rnd.choice(("male", "female", "other"))
    if rnd.random() < 0.7:
        made["birthDate"] = brute.span(moment(rnd))[0].date().isoformat()[: rnd.choice((4, 7, 10))]
    if rnd.random() < 0.8:
        made["identifier"] = [
            {**({"system": system} if (system := rnd.choice(SYSTEMS)) else {}), "value": str(rnd.randint(1, 20))}
            for _ in range(rnd.choice((1, 2)))
        ]
    return made


def dated(rnd: random.Random, date: str, span: str, odds: float = 0.8) -> dict[str, Any]:
    if rnd.random() > odds:
        return {}
    return {date: moment(rnd)} if rnd.random() < 0.7 else {span: period(rnd)}


def resource(rnd: random.Random, number: int, people: int) -> dict[str, Any]:
    type = rnd.choice(("Observation", "Observation", "Encounter", "Condition"))
    subject = {"subject": {"reference": f"Patient/p{rnd.randrange(people)}"}}
    head = {"resourceType": type, "id": f"x{number}"}
    if type == "Encounter":
        when = {"period": period(rnd)} if rnd.random() < 0.8 else {}
        return {**head, "status": rnd.choice(STATUSES[type]), "class": coding(rnd), **subject, **when}
    if type == "Condition":
        return {**head, "code": concept(rnd), **subject, **dated(rnd, "onsetDateTime", "onsetPeriod")}
    made = {**head, "status": rnd.choice(STATUSES[type]), "code": concept(rnd), **dated(rnd, "effectiveDateTime", "effectivePeriod")}
    if rnd.random() < 0.9:
        made |= subject
    if rnd.random() < 0.5:
        made["category"] = [concept(rnd) for _ in range(rnd.choice((1, 2)))]
    if rnd.random() < 0.6:
        made["valueQuantity"] = measured(rnd)
    if rnd.random() < 0.4:
        made["component"] = [component(rnd) for _ in range(rnd.choice((1, 2, 2, 3)))]
    return made


def measured(rnd: random.Random) -> dict[str, Any]:
    system, unit = rnd.choice(UNITS)
    value = rnd.choice((1, 5.4, 5.35, 5.45, 10, 10.04, 100, 95.5, 0.0054, 5400, 5399.5))
    return {"value": value, **({"system": system, "code": unit} if system else {"unit": unit})}


def component(rnd: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"code": concept(rnd)}
    if rnd.random() < 0.9:
        made |= {"valueQuantity": measured(rnd)} if rnd.random() < 0.6 else {"valueCodeableConcept": concept(rnd)}
    return made


@contextmanager
def populated(folder: Path, resources: int) -> Iterator[tuple[brute.World, httpx.Client]]:
    """What is live in the end, and a client of the server that holds it; some were changed and some deleted before anybody searches."""
    rnd = random.Random(SEED)
    server = start_server(folder, env={"FHIR_SERVER_TIME_ZONE": "UTC"})
    live: brute.World = {}
    with server.client() as client:

        def write(made: list[dict[str, Any]]) -> None:
            entries = [{"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}, "resource": one} for one in made]
            answer = client.post("", json={"resourceType": "Bundle", "type": "batch", "entry": entries})
            told = {entry["response"]["status"][:3] for entry in answer.json()["entry"]}
            assert told <= {"200", "201"}, answer.text
            live.update({f"{one['resourceType']}/{one['id']}": one for one in made})

        write([patient(rnd, f"p{number}") for number in range(40)])
        write([resource(rnd, number, 40) for number in range(resources)])
        write([patient(rnd, f"p{number}") for number in rnd.sample(range(40), 15)])
        for place in rnd.sample([place for place in live if not place.startswith("Patient/")], resources // 10):
            assert client.delete(place).status_code in (200, 204)
            del live[place]
        yield live, client
    server.kill()
