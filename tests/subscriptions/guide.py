"""What the R5 backport guide for R4 demands of a notification and of a status, asserted by hand from its text; and its profiles.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html, payloads.html; conformance.md K7–K13, K15
"""

from __future__ import annotations

import datetime as dt
import json
import re
import tarfile
from pathlib import Path
from typing import Any

from fhir_server.model.library import Library
from fhir_server.validation.profiles import ProfileRoom
from fhir_server.validation.structure import validate

Json = dict[str, Any]
GUIDE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
PACKAGE = "hl7.fhir.uv.subscriptions-backport.r4-1.2.0-ballot.tgz"
VALUES = {
    "subscription": "valueReference", "topic": "valueCanonical", "status": "valueCode", "type": "valueCode",
    "events-since-subscription-start": "valueString", "notification-event": "part", "error": "valueCodeableConcept",
}  # fmt: skip
PARTS = {"event-number": "valueString", "timestamp": "valueInstant", "focus": "valueReference", "additional-context": "valueReference"}
KINDS = ("handshake", "heartbeat", "event-notification", "query-status", "query-event")


class Profiles:
    """The guide's own profiles, asked through the validator."""

    def __init__(self, corpus: Path) -> None:
        with tarfile.open(corpus / "igs" / PACKAGE) as tar:
            members = [member for member in tar if "/example/" not in member.name and "-backport-" in member.name]
            resources = [json.load(opened) for member in members if (opened := tar.extractfile(member))]
        self._room = ProfileRoom(Library(one for one in resources if "url" in one).find)

    def errors(self, resource: Json, profile: str = "") -> list[str]:
        """What is wrong by R4 and by a profile of the guide."""
        issues = [*validate(resource), *self._room.validate(resource, [GUIDE + profile] if profile else [])]
        assert not any(issue.rule == "profile-unknown" for issue in issues)
        return [issue.diagnostics for issue in issues if issue.severity == "error"]

    def notification(self, bundle: Json) -> None:
        """Of a notification Bundle and the status in front of it."""
        assert self.errors(bundle, "backport-subscription-notification-r4") == []
        self.status(bundle["entry"][0]["resource"])

    def status(self, parameters: Json) -> None:
        """Of a status."""
        assert self.errors(parameters, "backport-subscription-status-r4") == []


def _one(row: Json, values: dict[str, str]) -> Any:
    """The value of a parameter, which has exactly the one that is due."""
    (key,) = row.keys() - {"name"}
    assert key == values[row["name"]], row
    return row[key]


def check_status(parameters: Json, kind: str, id: str) -> Json:
    """K8: names, cardinalities and types of a status; gives name -> value, of events a list of theirs."""
    assert parameters["resourceType"] == "Parameters"
    found: Json = {"events": [], "errors": []}
    for row in parameters["parameter"]:
        value = _one(row, VALUES)
        if row["name"] == "notification-event":
            event: Json = {}
            for part in value:
                assert part["name"] not in event or part["name"] == "additional-context"
                event[part["name"]] = _one(part, PARTS)
            dt.datetime.fromisoformat(event["timestamp"])
            assert re.fullmatch(r"[1-9][0-9]*", event["event-number"])
            found["events"].append(event)
        elif row["name"] == "error":
            found["errors"].append(value)
        else:
            assert row["name"] not in found, "once"
            found[row["name"]] = value
    assert {"subscription", "status", "type", "events-since-subscription-start"} <= found.keys()
    assert found["type"] == kind and kind in KINDS
    assert found["status"] in ("requested", "active", "error", "off")
    assert found["subscription"]["reference"].endswith(f"/Subscription/{id}")
    assert re.fullmatch("[0-9]+", found["events-since-subscription-start"])
    return found


def check_notification(bundle: Json, kind: str, id: str, content: str, topic: str) -> Json:
    """K7, K9–K13: a notification Bundle of a content level; gives what its status says."""
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "history")
    assert "timestamp" in bundle and "total" not in bundle and not any("search" in entry for entry in bundle["entry"])
    assert all({"method", "url"} <= entry["request"].keys() and "status" in entry["response"] for entry in bundle["entry"]), "bdl-3, bdl-4"
    first, *others = bundle["entry"]
    assert (first["request"]["method"], first["request"]["url"].endswith(f"Subscription/{id}/$status")) == ("GET", True)
    found = check_status(first["resource"], kind, id)
    if kind in ("handshake", "heartbeat"):
        assert found["events"] == [] and others == [], "SHALL NOT contain any events"
        return found
    assert found["events"] or kind == "query-event", "K10: at least one event"
    if content == "empty":
        assert others == [] and not any({"focus", "additional-context"} & event.keys() for event in found["events"]), "K11"
        assert kind == "query-event" or "topic" not in found
        return found
    assert found["topic"] == topic
    entries = {entry["fullUrl"]: entry for entry in others}
    for event in found["events"]:
        focus = event["focus"]["reference"]
        assert re.fullmatch(r".+/[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}", focus), "K12: with the resource type"
        assert focus in entries, "K13: can be found among the entries"
    for entry in others:
        deleted = entry["request"]["method"] == "DELETE"
        assert ("resource" in entry) is (content == "full-resource" and not deleted), "K12, K13"
        if "resource" in entry:
            assert entry["fullUrl"].endswith(f"/{entry['resource']['resourceType']}/{entry['resource']['id']}")
            assert [one for one in validate(entry["resource"]) if one.severity == "error"] == []
    return found
