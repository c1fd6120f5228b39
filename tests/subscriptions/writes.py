"""Writes over each path that a server has, and which changes are due: what each case says it writes.

https://hl7.org/fhir/R4/http.html; the cases are told to Subscriptions in test_write_paths.py.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import httpx

from tests.conftest import ROOT, Server
from tests.hl7v2.support import Peer, admission, result, salt
from tests.interactions.bundles import batch, entry, transaction
from tests.subscriptions.test_wire import wait_for

Json = dict[str, Any]
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
XML_PATCH = {"Content-Type": "application/xml-patch+xml"}
AMENDED = [{"op": "replace", "path": "/status", "value": "amended"}]
AS_BINARY = {
    "resourceType": "Binary",
    "contentType": "application/json-patch+json",
    "data": base64.b64encode(json.dumps(AMENDED).encode()).decode(),
}
_REPLACE = {"type": {"valueCode": "replace"}, "path": {"valueString": "Observation.status"}, "value": {"valueCode": "amended"}}
FHIRPATH_PATCH = {
    "resourceType": "Parameters",
    "parameter": [{"name": "operation", "part": [{"name": name, **value} for name, value in _REPLACE.items()]}],
}


class Site(Protocol):
    """Where is written."""

    server: Server
    client: httpx.Client


Due = list[tuple[str, str]]
Write = Callable[[Site], Due]


def observation(id: str = "", **more: Any) -> Json:
    return {"resourceType": "Observation", **({"id": id} if id else {}), "status": "final", "code": {"text": "x"}, **more}


CASES: dict[str, Write] = {}
"""Name -> what it writes; it gives back the (interaction, resource) that are due. A resource without an id stands for any of its type."""


def case(function: Write) -> Write:
    CASES[function.__name__.replace("_", " ")] = function
    return function


def done(answer: httpx.Response, *statuses: int) -> httpx.Response:
    assert answer.status_code in (statuses or (200, 201, 204)), answer.text
    return answer


def there(site: Site, id: str, **more: Any) -> str:
    """An Observation that is there before the case; its place."""
    done(site.client.put(f"Observation/{id}", json=observation(id, **more)))
    return f"Observation/{id}"


def marked(value: str) -> Json:
    return {"identifier": [{"system": "urn:x", "value": value}]}


# --- single interactions


@case
def create(site: Site) -> Due:
    made = done(site.client.post("Observation", json=observation()), 201).json()["id"]
    return [("create", f"Observation/{made}")]


@case
def update_as_create_update_and_the_same_once_more(site: Site) -> Due:
    place = there(site, "w1")
    done(site.client.put(place, json=observation("w1", status="amended")))
    answer = done(site.client.put(place, json=observation("w1", status="amended")))
    assert answer.headers["etag"] == 'W/"2"'
    return [("create", place), ("update", place)]


@case
def conditional_create_that_creates_and_that_finds(site: Site) -> Due:
    query = {"If-None-Exist": "identifier=urn:x|cc"}
    made = done(site.client.post("Observation", json=observation(**marked("cc")), headers=query), 201).json()["id"]
    done(site.client.post("Observation", json=observation(**marked("cc")), headers=query), 200)
    return [("create", f"Observation/{made}")]


@case
def conditional_update_that_creates_updates_and_changes_nothing(site: Site) -> Due:
    query = "Observation?identifier=urn:x|cu"
    made = done(site.client.put(query, json=observation(**marked("cu"))), 201).json()["id"]
    for _ in range(2):
        done(site.client.put(query, json=observation(status="amended", **marked("cu"))), 200)
    return [("create", f"Observation/{made}"), ("update", f"Observation/{made}")]


@case
def json_patch(site: Site) -> Due:
    place = there(site, "pj")
    for _ in range(2):  # the second changes nothing
        done(site.client.patch(place, json=AMENDED, headers=JSON_PATCH))
    return [("create", place), ("update", place)]


@case
def merge_patch(site: Site) -> Due:
    place = there(site, "pm")
    for _ in range(2):
        done(site.client.patch(place, json={"status": "amended"}, headers=MERGE_PATCH))
    return [("create", place), ("update", place)]


@case
def fhirpath_patch(site: Site) -> Due:
    place = there(site, "pf")
    for _ in range(2):
        done(site.client.patch(place, json=FHIRPATH_PATCH, headers={"Content-Type": "application/fhir+json"}))
    return [("create", place), ("update", place)]


@case
def xml_patch(site: Site) -> Due:
    place = there(site, "px")
    patch = '<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:Observation/f:status/@value">amended</replace></diff>'
    for _ in range(2):
        done(site.client.patch(place, content=patch, headers=XML_PATCH))
    return [("create", place), ("update", place)]


@case
def conditional_patch(site: Site) -> Due:
    place = there(site, "cp", **marked("cp"))
    for _ in range(2):
        done(site.client.patch("Observation?identifier=urn:x|cp", json=AMENDED, headers=JSON_PATCH))
    return [("create", place), ("update", place)]


@case
def delete_delete_again_and_create_anew(site: Site) -> Due:
    place = there(site, "d1")
    for _ in range(2):
        done(site.client.delete(place))
    done(site.client.put(place, json=observation("d1")), 201)
    return [("create", place), ("delete", place), ("create", place)]


@case
def conditional_delete_of_one_of_several_and_of_none(site: Site) -> Due:
    one, *several = [there(site, "cd0", **marked("cd0")), *(there(site, f"cd{n}", **marked("cd")) for n in (1, 2, 3))]
    for value in ("cd0", "cd", "cd"):
        done(site.client.delete(f"Observation?identifier=urn:x|{value}"))
    return [(interaction, place) for interaction in ("create", "delete") for place in (one, *several)]


@case
def meta_add_and_delete(site: Site) -> Due:
    place = there(site, "meta")
    asked_for = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x", "system": "urn:x"}]}}]}
    for operation in ("$meta-add", "$meta-add", "$meta-delete"):
        done(site.client.post(f"{place}/{operation}", json=asked_for), 200)
    return [("create", place), ("update", place), ("update", place)]


@case
def graphql_mutations(site: Site) -> Due:
    def ask(query: str) -> Json:
        answer = done(site.client.post("$graphql", json={"query": f"mutation {{ {query} }}"}), 200).json()
        assert "errors" not in answer, answer
        found: Json = answer["data"]
        return found

    made = ask('ObservationCreate(res: { status: final, code: { text: "x" } }) { id }')["ObservationCreate"]["id"]
    ask(f'ObservationUpdate(id: "{made}", res: {{ status: amended, code: {{ text: "x" }} }}) {{ id }}')
    ask(f'ObservationDelete(id: "{made}") {{ id }}')
    return [(interaction, f"Observation/{made}") for interaction in ("create", "update", "delete")]


# --- Bundles


def of_each_kind(site: Site, kind: Callable[..., Json], name: str) -> Due:
    """One entry of each kind, among them those that change nothing."""
    plain, named = ("put", "patch", "same", "fpatch"), ("cput", "cpatch", "cdel1", "cdel2", "del", "found")
    for id in plain:
        there(site, f"{name}-{id}")
    for id in named:
        there(site, f"{name}-{id}", **marked(f"{name}-{id[:4]}"))
    query = f"identifier=urn:x|{name}"
    rows = [
        entry("POST", "Observation", observation(**marked(f"{name}-post"))),
        entry("POST", "Observation", observation(**marked(f"{name}-none")), ifNoneExist=f"{query}-none"),
        entry("POST", "Observation", observation(**marked(f"{name}-foun")), ifNoneExist=f"{query}-foun"),
        entry("PUT", f"Observation/{name}-new", observation(f"{name}-new")),
        entry("PUT", f"Observation/{name}-put", observation(f"{name}-put", status="amended")),
        entry("PUT", f"Observation/{name}-same", observation(f"{name}-same")),
        entry("PUT", f"Observation?{query}-cput", observation(status="amended", **marked(f"{name}-cput"))),
        entry("PUT", f"Observation?{query}-cnew", observation(**marked(f"{name}-cnew"))),
        entry("PATCH", f"Observation/{name}-patch", AS_BINARY), entry("PATCH", f"Observation/{name}-fpatch", FHIRPATH_PATCH),
        entry("PATCH", f"Observation?{query}-cpat", AS_BINARY),
        entry("DELETE", f"Observation/{name}-del"), entry("DELETE", f"Observation?{query}-cdel"),
        entry("DELETE", f"Observation?{query}-nobody"),
        entry("GET", f"Observation/{name}-same"),
    ]  # fmt: skip
    answer = done(site.client.post("", json=kind(*rows)), 200).json()
    assert all(row["response"]["status"][:1] == "2" for row in answer["entry"]), answer
    before = [("create", f"Observation/{name}-{id}") for id in (*plain, *named)]
    new = [("create", "Observation")] * 3 + [("create", f"Observation/{name}-new")]
    changed = [("update", f"Observation/{name}-{id}") for id in ("put", "cput", "patch", "fpatch", "cpatch")]
    return [*before, *new, *changed, *(("delete", f"Observation/{name}-{id}") for id in ("del", "cdel1", "cdel2"))]


@case
def batch_of_each_kind(site: Site) -> Due:
    return of_each_kind(site, batch, "batch")


@case
def transaction_of_each_kind(site: Site) -> Due:
    return of_each_kind(site, transaction, "trans")


@case
def batch_with_entries_that_fail(site: Site) -> Due:
    rows = [
        entry("PUT", "Observation/bf1", observation("bf1")),
        entry("POST", "Observation", observation(status="nonsense")),
        entry("PUT", "Observation/bf2", observation("bf2")),
    ]
    answer = done(site.client.post("", json=batch(*rows)), 200).json()
    assert [row["response"]["status"][:3] for row in answer["entry"]] in (["201", "422", "201"], ["201", "400", "201"])
    return [("create", "Observation/bf1"), ("create", "Observation/bf2")]


# --- what is refused or rolled back


@case
def single_interactions_that_are_refused(site: Site) -> Due:
    client, place = site.client, there(site, "r1", **marked("r"))
    there(site, "r2", **marked("r"))
    stale = {"If-Match": 'W/"9"'}
    for answer in (
        client.post("Observation", json=observation(status="nonsense")),
        client.put(place, json=observation("r1", status="amended"), headers=stale),
        client.put(place, json=observation("other")),
        client.put("Observation?identifier=urn:x|r", json=observation(**marked("r"))),
        client.post("Observation", json=observation(**marked("r")), headers={"If-None-Exist": "identifier=urn:x|r"}),
        client.patch(place, json=AMENDED, headers={**JSON_PATCH, **stale}),
        client.patch(place, json=[{"op": "test", "path": "/status", "value": "amended"}, *AMENDED], headers=JSON_PATCH),
        client.patch(place, json={"status": "nonsense"}, headers=MERGE_PATCH),
        client.patch("Observation?identifier=urn:x|r", json=AMENDED, headers=JSON_PATCH),
        client.patch("Observation/not-there", json=AMENDED, headers=JSON_PATCH),
        client.delete(place, headers=stale),
        client.delete("Observation?colour=red"),
        client.post("Observation/$validate", json=observation()),
    ):
        assert answer.status_code in (400, 404, 409, 412, 422) or "$validate" in str(answer.url), answer.text
    done(client.delete("Observation/never-there"), 200, 204, 404)
    return [("create", place), ("create", "Observation/r2")]


@case
def transactions_that_are_rolled_back(site: Site) -> Due:
    place, gone, *others = (there(site, id, **marked(id[0])) for id in ("t1", "gone", "t5", "t6"))
    good = [
        entry("POST", "Observation", observation()), entry("PUT", "Observation/t2", observation("t2")),
        entry("PUT", place, observation("t1", status="amended")), entry("DELETE", gone),
    ]  # fmt: skip
    bad = [
        entry("PUT", "Observation/t3", observation("t3", status="nonsense")),
        entry("PUT", "Observation/t3", observation("t3"), ifMatch='W/"4"'),
        entry("PATCH", "Observation/not-there", {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "W10="}),
        entry("PUT", "Observation?identifier=urn:x|t", observation(**marked("t"))),
        entry("PUT", place, observation("t1")),
    ]
    for one in bad:
        answer = site.client.post("", json=transaction(*good, one))
        assert answer.status_code in (400, 404, 409, 412, 422), answer.text
    return [("create", one) for one in (place, gone, *others)]


# --- messages, the server's own work, the bulk loader


@case
def hl7_v2_messages(site: Site) -> Due:
    token = salt()
    with Peer(site.server) as peer:
        assert peer.send(admission(f"P{token}", f"A{token}")).code == "AA"
        assert peer.send(admission(f"P{token}", f"A{token}")).code == "AA"  # the same message once more
        assert peer.send(admission(f"P{token}", f"B{token}", event="A08", name="Meyer^Paula", when="20260116083000")).code == "AA"
        assert peer.send(result(f"P{token}", f"R{token}")).code == "AA"
        assert peer.send("MSH|^~\\&|HIS|X|FHIR|HM|20260120||ADT^A01|BAD|P|2.5.1\rPID|1\r").code in ("AE", "AR")
    first = [("create", "Patient"), ("create", "Encounter"), ("update", "Patient")]
    return [*first, ("create", "Observation"), ("create", "DiagnosticReport")]


@case
def a_plan_of_the_follow_up_engine(site: Site) -> Due:
    client = site.client
    kind = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
    done(client.put("Patient/stay", json={"resourceType": "Patient", "id": "stay", "gender": "female", "birthDate": "1958-06-12"}))
    stay = {"resourceType": "Encounter", "id": "stay", "class": kind, "subject": {"reference": "Patient/stay"}}
    now = dt.datetime.now(dt.UTC).replace(microsecond=0).isoformat()
    period = {"start": now, "end": now}
    done(client.put("Encounter/stay", json={**stay, "status": "finished", "period": period}))
    wait_for(lambda: client.get("Task?patient=stay").json()["total"] == 2)
    wait_for(lambda: client.get("CarePlan?patient=stay").json()["total"] == 1)
    return [("create", "Patient/stay"), ("create", "Encounter/stay"), ("create", "CarePlan"), ("create", "Task"), ("create", "Task")]


@case
def bulk_loading_beside_the_server(site: Site) -> Due:
    place = there(site, "l1")
    there(site, "l2")
    folder = site.server.data_dir.parent
    rows = [observation("l1", status="amended"), observation("l2"), observation("l3"), observation("l4", status="nonsense")]
    (folder / "in.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        "-m",
        "fhir_server.cli",
        "load",
        "--quiet",
        str(folder / "in.ndjson"),
        "--data-dir",
        str(site.server.data_dir),
    ]
    for _ in range(2):  # the second run finds it done
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode in (0, 1) and "l4" in ran.stdout + ran.stderr
    return [("create", place), ("create", "Observation/l2"), ("update", place), ("create", "Observation/l3")]
