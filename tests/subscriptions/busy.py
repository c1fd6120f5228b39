"""Clients that write over every path at random while their server is killed, and a receiver with moods; for test_kill.py."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from integrations.hl7v2.client import MllpClient
from tests.conftest import ROOT, Server
from tests.hl7v2.support import admission, result
from tests.interactions.bundles import batch, entry, transaction
from tests.subscriptions.receiver import Receiver
from tests.subscriptions.writes import AMENDED, AS_BINARY, FHIRPATH_PATCH, JSON_PATCH, MERGE_PATCH, XML_PATCH, marked, observation

Json = dict[str, Any]
POOL = 60
"""Observations that are written again and again."""
MOODS = {"answers": 200, "answers 500": 500, "closes": -1, "hangs": 200, "is down": -1}


class Moody(Receiver):
    """A receiver that answers, answers 500, closes connections, hangs until its next mood, or is not there; always on the same port."""

    server: asyncio.Server | None = None

    async def begin(self) -> None:
        """Listen, on the port of before."""
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
            self.port = self.server.sockets[0].getsockname()[1]

    def end(self) -> None:
        """No new connection is accepted."""
        if self.server is not None:
            self.server.close()
            self.server = None

    async def turn(self, mood: str) -> None:
        """Be in a mood from now on; whoever waits is answered."""
        waiting, self.open = self.open, asyncio.Event() if mood == "hangs" else None
        if waiting is not None:
            waiting.set()
        self.status = MOODS[mood]
        if mood == "is down":
            self.end()
        else:
            await self.begin()

    async def change(self, draw: random.Random) -> None:
        """One mood after the other, without an end."""
        while True:
            await self.turn(draw.choice(["answers", "answers", *MOODS]))
            await asyncio.sleep(draw.uniform(0.2, 1.2))


class Busy:
    """Writes over every path. `server` is another one after each kill; what is under way then fails, and counts only if it was answered."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.folder, self.draw = folder, draw
        self.server: Server | None = None
        self.acknowledged: set[tuple[str, str]] = set()
        """(resource, version) that were told to be stored."""
        self.writes = 0
        """Changes that were asked for in requests that were answered."""
        self.ways: dict[str, int] = {}
        self._number = 0

    def fresh(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}{self._number}"

    def some(self) -> str:
        return f"o{self.draw.randrange(POOL)}"

    def content(self, id: str = "", **more: Any) -> Json:
        """An Observation that differs from each before it."""
        return observation(id, valueString=self.fresh("v"), **{**more, "status": self.draw.choice(["final", "amended"])})

    async def work(self, until: Callable[[], bool]) -> None:
        """Write without a pause; a server that does not answer is waited for."""
        ways = [way for way in dir(self) if way.startswith("by_")]
        server: Server | None = None
        client = httpx.AsyncClient()
        try:
            while not until():
                if self.server is not server or server is None:
                    await client.aclose()
                    server = self.server
                    client = httpx.AsyncClient(base_url=f"{server.base}/" if server else "", timeout=20)
                    if server is None:
                        await asyncio.sleep(0.05)
                        continue
                way = self.draw.choice(ways)
                try:
                    number = await getattr(self, way)(client, server)
                except (httpx.TransportError, OSError, TimeoutError):
                    await asyncio.sleep(0.05)
                    continue
                self.writes += number
                self.ways[way] = self.ways.get(way, 0) + number
        finally:
            await client.aclose()

    def kept(self, answer: httpx.Response, place: str = "") -> int:
        """Note what an answer says is stored; conflicts with another writer are no failure."""
        assert answer.status_code < 300 or answer.status_code in (404, 409, 410, 412), answer.text
        if answer.status_code < 300:
            place = "/".join(answer.headers["location"].split("/")[-4:-2]) if "location" in answer.headers else place
            self._note(place, answer.headers.get("etag"))
        return 1

    def _note(self, place: str, etag: str | None) -> None:
        if place and etag:
            self.acknowledged.add((place, etag.removeprefix('W/"').rstrip('"')))

    async def by_create(self, client: httpx.AsyncClient, _: Server) -> int:
        return self.kept(await client.post("Observation", json=self.content()))

    async def by_update(self, client: httpx.AsyncClient, _: Server) -> int:
        id = self.some()
        return self.kept(await client.put(f"Observation/{id}", json=self.content(id)), f"Observation/{id}")

    async def by_conditional_create(self, client: httpx.AsyncClient, _: Server) -> int:
        value = f"c{self.draw.randrange(POOL)}"
        headers = {"If-None-Exist": f"identifier=urn:x|{value}"}
        return self.kept(await client.post("Observation", json=self.content(**marked(value)), headers=headers))

    async def by_conditional_update(self, client: httpx.AsyncClient, _: Server) -> int:
        value = f"u{self.draw.randrange(POOL)}"
        return self.kept(await client.put(f"Observation?identifier=urn:x|{value}", json=self.content(**marked(value))))

    async def by_patch(self, client: httpx.AsyncClient, _: Server) -> int:
        id = self.some()
        xml = '<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:Observation/f:status/@value">amended</replace></diff>'
        sent: Json = self.draw.choice(
            [
                {"json": AMENDED, "headers": JSON_PATCH},
                {"json": {"valueString": self.fresh("m"), "status": "final"}, "headers": MERGE_PATCH},
                {"json": FHIRPATH_PATCH, "headers": {"Content-Type": "application/fhir+json"}},
                {"content": xml, "headers": XML_PATCH},
            ]
        )
        place = self.draw.choice([f"Observation/{id}", f"Observation?_id={id}"])
        return self.kept(await client.patch(place, **sent), f"Observation/{id}")

    async def by_delete(self, client: httpx.AsyncClient, _: Server) -> int:
        id = self.some()
        value = self.draw.choice("cub") + id[1:]
        place = self.draw.choice([f"Observation/{id}", f"Observation?_id={id}", f"Observation?identifier=urn:x|{value}"])
        return self.kept(await client.delete(place), "" if "identifier" in place else f"Observation/{id}")

    async def by_meta(self, client: httpx.AsyncClient, _: Server) -> int:
        tag = {"tag": [{"system": "urn:x", "code": self.fresh("t")}]}
        asked = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": tag}]}
        answer = await client.post(f"Observation/{self.some()}/$meta-add", json=asked)
        assert answer.status_code in (200, 404, 409, 410, 412), answer.text
        return 1

    async def by_batch(self, client: httpx.AsyncClient, _: Server) -> int:
        return await self._bundle(client, batch)

    async def by_transaction(self, client: httpx.AsyncClient, _: Server) -> int:
        return await self._bundle(client, transaction)

    async def by_transaction_that_fails(self, client: httpx.AsyncClient, _: Server) -> int:
        rows = [entry("PUT", f"Observation/{id}", self.content(id)) for id in (self.some(), self.fresh("never"))]
        bad = observation(status="nonsense")
        answer = await client.post("", json=transaction(*rows, entry("POST", "Observation", bad)))
        assert answer.status_code in (400, 422), answer.text
        return 0

    async def _bundle(self, client: httpx.AsyncClient, kind: Callable[..., Json]) -> int:
        put, deleted, patched = self.draw.sample([f"o{n}" for n in range(POOL)], 3)
        value = f"b{self.draw.randrange(POOL)}"
        rows = [
            entry("POST", "Observation", self.content()), entry("PUT", f"Observation/{put}", self.content(put)),
            entry("PUT", f"Observation?identifier=urn:x|{value}", self.content(**marked(value))),
            entry("DELETE", f"Observation/{deleted}"),
        ]  # fmt: skip
        if kind is batch:
            rows.append(entry("PATCH", f"Observation/{patched}", AS_BINARY))
        answer = await client.post("", json=kind(*rows))
        if answer.status_code != 200:
            assert answer.status_code in (404, 409, 412), answer.text
            return 0
        for row in answer.json()["entry"]:
            if row["response"]["status"][0] == "2" and "location" in row["response"]:
                self._note("/".join(row["response"]["location"].split("/")[-4:-2]), row["response"]["etag"])
        return len(rows)

    async def by_hl7_v2(self, _: httpx.AsyncClient, server: Server) -> int:
        assert server.mllp is not None
        who, control = f"P{self.draw.randrange(20)}", self.fresh("C")
        when = f"202601{self.draw.randrange(10, 28)}{self.draw.randrange(10, 23)}{self.draw.randrange(10, 59)}00"
        message = (
            admission(who, control, name=f"Meyer^{control}", when=when)
            if self.draw.random() < 0.5
            else result(who, control, filler=control)
        )
        async with MllpClient(*server.mllp, timeout=20) as peer:
            answer = await peer.send(message.encode())
        assert b"MSA|AA" in answer, answer
        return 2

    async def by_discharge(self, client: httpx.AsyncClient, _: Server) -> int:
        """The follow-up engine answers with a plan and tasks of its own."""
        id, now = self.fresh("stay"), dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()
        if self.draw.random() > 0.15:
            return 0
        coded = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
        stay = {"resourceType": "Encounter", "id": id, "status": "finished", "class": coded, "period": {"start": now, "end": now}}
        self.kept(await client.put(f"Patient/{id}", json={"resourceType": "Patient", "id": id, "birthDate": "1958-06-12"}), f"Patient/{id}")
        stay["subject"] = {"reference": f"Patient/{id}"}
        return 1 + self.kept(await client.put(f"Encounter/{id}", json=stay), f"Encounter/{id}")

    async def load(self, number: int) -> None:
        """`fhir-server load` of new Observations beside the server, or while there is none."""
        path = self.folder / f"{self.fresh('in')}.ndjson"
        path.write_text("".join(json.dumps(self.content(self.fresh("l"))) + "\n" for _ in range(number)))
        command = [sys.executable, "-m", "fhir_server.cli", "load", "--quiet", str(path), "--data-dir", str(self.folder / "data")]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        try:
            said, _ = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        assert process.returncode == 0, said.decode()
        self.writes += number
        self.ways["load"] = self.ways.get("load", 0) + number
