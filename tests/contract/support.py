"""Hand-made resources for the contract suite: each carries its own index values, so that no indexer is involved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fhir_server.search.values import MIN_INSTANT, IndexValues, Key, Range, Text
from fhir_server.storage.port import Store, Stored, Unit, Write

TYPES = ("Condition", "Encounter", "Observation", "Organization", "Patient")

# Parameter numbers of the hand-made definitions.
OBS_CODE, OBS_SUBJECT, OBS_DATE, OBS_VALUE, OBS_PATIENT_CODE, OBS_STATUS, OBS_ENCOUNTER = 11, 12, 13, 14, 15, 16, 17
PAT_FAMILY, PAT_GIVEN, PAT_IDENTIFIER, PAT_BIRTH, PAT_GENDER, PAT_ORG, PAT_SCORE = 21, 22, 23, 24, 25, 26, 27
CON_CODE, CON_SUBJECT, CON_PATIENT_CODE, CON_ONSET = 31, 32, 33, 34
ENC_SUBJECT, ENC_DATE = 41, 42
ORG_NAME = 51

CLINICAL = {"Observation": OBS_DATE, "Encounter": ENC_DATE, "Condition": CON_ONSET}
PATIENT_CODE = {"Observation": (OBS_SUBJECT, OBS_CODE, OBS_PATIENT_CODE), "Condition": (CON_SUBJECT, CON_CODE, CON_PATIENT_CODE)}


def fold(text: str) -> str:
    return text.lower()


def index(resource: dict[str, Any]) -> IndexValues:
    """The values that the resource carries under `index`, and the patient-code key that an indexer would add."""
    given = resource.get("index", {})
    values = IndexValues(
        [Key(*item) for item in given.get("keys", [])],
        [Text(parameter, fold(exact), exact) for parameter, exact in given.get("texts", [])],
        [Range(*item) for item in given.get("ranges", [])],
        given.get("clinical", MIN_INSTANT),
    )
    if resource["resourceType"] in PATIENT_CODE:
        subject, code, both = PATIENT_CODE[resource["resourceType"]]
        patients = [key.value for key in values.keys if key.parameter == subject and key.space == "Patient"]
        codes = [f"{key.space}|{key.value}" for key in values.keys if key.parameter == code]
        values.keys.extend(Key(both, patient, item) for patient in patients for item in codes)
    return values


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def options(**more: Any) -> dict[str, Any]:
    """Constructor arguments of a store for these resources."""
    plain = {
        "index": index,
        "type_names": TYPES,
        "dumps": dumps,
        "loads": json.loads,
        "fold": fold,
        "clinical": CLINICAL,
        "patient_code": PATIENT_CODE,
    }
    return {**plain, **more}


def sqlite_store(folder: Path, **more: Any) -> Store:
    from fhir_server.storage.sqlite import SqliteStore

    return SqliteStore(folder, **options(**more))


# --- resources
def patient(
    id: str = "p1",
    family: str | None = None,
    given: Sequence[str] = (),
    identifier: Sequence[tuple[str, str]] = (),
    birth: tuple[int, int] | None = None,
    **more: Any,
) -> dict[str, Any]:
    texts = ([[PAT_FAMILY, family]] if family else []) + [[PAT_GIVEN, name] for name in given]
    keys = [[PAT_IDENTIFIER, system, value] for system, value in identifier]
    if "organization" in more:
        keys.append([PAT_ORG, "Organization", more["organization"]])
    if "gender" in more:
        keys.append([PAT_GENDER, "http://hl7.org/fhir/administrative-gender", more["gender"]])
    ranges = [[PAT_BIRTH, "", "", *birth]] if birth else []
    return {"resourceType": "Patient", "id": id, "index": {"keys": keys, "texts": texts, "ranges": ranges}, **more}


LOINC = "http://loinc.org"
DAY = 86_400_000


def observation(
    id: str, patient_id: str | None = "p1", code: str = "8480-6", at: int | None = 0, length: int = 0, **more: Any
) -> dict[str, Any]:
    keys = [[OBS_CODE, LOINC, code], [OBS_STATUS, "http://hl7.org/fhir/observation-status", "final"]]
    if patient_id is not None:
        keys.append([OBS_SUBJECT, "Patient", patient_id])
    given: dict[str, Any] = {"keys": keys, "ranges": []}
    if at is not None:
        given["clinical"] = at
        given["ranges"].append([OBS_DATE, "", "", at, at + length])
    if "value" in more:
        value = more["value"]
        given["ranges"].append([OBS_VALUE, "http://unitsofmeasure.org", "mm[Hg]", value - 0.5, value + 0.5])
    return {"resourceType": "Observation", "id": id, "index": given, **more}


def put(resource: dict[str, Any], if_match: int | None = None) -> Write:
    return Write("PUT", resource["resourceType"], resource["id"], resource, if_match)


def post(resource: dict[str, Any]) -> Write:
    return Write("POST", resource["resourceType"], resource["id"], resource)


def delete(type: str, id: str, if_match: int | None = None) -> Write:
    return Write("DELETE", type, id, None, if_match)


async def save(store: Store, *resources: dict[str, Any]) -> list[Stored]:
    """PUT all in one unit; the stored versions."""
    commit = await store.transact(Unit.of(*map(put, resources)))
    return [outcome.stored for outcome in commit.outcomes if outcome.stored]


def ids(items: Iterable[Stored]) -> list[str]:
    return [item.id for item in items]


def content(stored: Stored) -> dict[str, Any]:
    return json.loads(stored.body)
