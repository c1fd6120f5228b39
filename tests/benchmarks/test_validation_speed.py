"""The validation benchmark runs and judges right; memory stays flat. Nothing here is timed."""

from __future__ import annotations

import tracemalloc

from benchmarks import validation_speed as speed
from fhir_server.model import json_codec
from fhir_server.model.library import Library
from fhir_server.model.packages import read_package
from fhir_server.validation.profiles import ProfileRoom


def room_of(corpus) -> ProfileRoom:
    guides = [read_package(corpus / "igs" / name) for name in speed.GUIDES]
    return ProfileRoom(Library(one for guide in guides for one in guide.resources).find)


def test_the_patients_of_the_benchmark_are_true_to_their_profiles(corpus) -> None:
    held = speed.resources(corpus)
    rows = speed.against_profiles(room_of(corpus), held["Patient"][:20])
    assert rows[-1][:2] == ["of these with errors", "0"]
    broken = json_codec.loads(held["Patient"][0])
    del broken["name"]
    errors = [issue for issue in room_of(corpus).validate(broken) if issue.severity == "error"]
    assert [(issue.rule, issue.expression[0]) for issue in errors] == [("cardinality", "Patient.name")]


def test_validations_leave_no_memory_behind(corpus) -> None:
    """Known failure 20 of other servers: caches that grow with every validation."""
    room = room_of(corpus)
    held = speed.resources(corpus)
    sample = [json_codec.loads(one) for type in ("Patient", "Observation", "Encounter") for one in held[type][:30]]
    for one in sample:
        room.validate(one)
    tracemalloc.start()
    try:
        for one in sample * 3:
            room.validate(one)
        before = tracemalloc.get_traced_memory()[0]
        for one in sample * 30:
            room.validate(one)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 50_000, f"{grown} bytes more after {30 * len(sample)} validations"
