"""From method and path to an interaction. https://hl7.org/fhir/R4/http.html#summary"""

from __future__ import annotations

import pytest

from fhir_server.errors import FhirError
from fhir_server.interactions.route import Route, route

TYPES = frozenset({"Patient", "Observation"})


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "Patient/1", Route("read", "Patient", "1")),
        ("HEAD", "Patient/1", Route("read", "Patient", "1")),
        ("GET", "Patient/1/_history/2", Route("vread", "Patient", "1", "2")),
        ("PUT", "Patient/1", Route("update", "Patient", "1")),
        ("PUT", "Patient", Route("update", "Patient")),
        ("PATCH", "Patient/1", Route("patch", "Patient", "1")),
        ("PATCH", "Patient", Route("patch", "Patient")),
        ("DELETE", "Patient/1", Route("delete", "Patient", "1")),
        ("DELETE", "Patient", Route("delete", "Patient")),
        ("POST", "Patient", Route("create", "Patient")),
        ("GET", "Patient", Route("search", "Patient")),
        ("GET", "Patient/", Route("search", "Patient")),
        ("POST", "Patient/_search", Route("search", "Patient")),
        ("GET", "", Route("search")),
        ("POST", "_search", Route("search")),
        ("GET", "metadata", Route("capabilities")),
        ("POST", "", Route("batch")),
        ("GET", "_history", Route("history")),
        ("GET", "Patient/_history", Route("history", "Patient")),
        ("GET", "Patient/1/_history", Route("history", "Patient", "1")),
        ("GET", "Patient/1/Observation", Route("search", "Patient", "1", target="Observation")),
        ("POST", "Patient/1/Observation/_search", Route("search", "Patient", "1", target="Observation")),
        ("GET", "Patient/1/*", Route("search", "Patient", "1", target="*")),
        ("POST", "$fhirpath", Route("operation", operation="fhirpath")),
        ("GET", "Patient/$match", Route("operation", "Patient", operation="match")),
        ("GET", "Patient/1/$everything", Route("operation", "Patient", "1", operation="everything")),
        ("GET", "Patient/1/_history/2/$meta", Route("operation", "Patient", "1", "2", "meta")),
        ("OPTIONS", "Patient/1", Route("options")),
        ("GET", "$async-status/0a1b", Route("async-status", id="0a1b")),
        ("DELETE", "$async-status/0a1b", Route("async-status", id="0a1b")),
    ],
)
def test_the_specifications_table_of_addresses(method, path, expected):
    assert route(method, path, TYPES) == expected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "Nothing", 404),
        ("GET", "$async-status/0a1b/2", 404),
        ("PUT", "$async-status/0a1b", 405),
        ("GET", "Nothing/1", 404),
        ("GET", "patient/1", 404),
        ("GET", "Patient/1/Nothing", 404),
        ("GET", "Patient/1/_history/2/3", 404),
        ("GET", "Patient/1/Observation/2", 404),
        ("GET", "Patient//Observation", 404),
        ("GET", "Patient/a b", 400),
        ("GET", "Patient/" + "x" * 65, 400),
        ("GET", "Patient/1/_history/a b", 400),
        ("POST", "Patient/1", 405),
        ("PUT", "", 405),
        ("PUT", "Patient/_history", 405),
        ("DELETE", "metadata", 405),
        ("FETCH", "Patient", 405),
    ],
)
def test_what_is_nowhere(method, path, status):
    with pytest.raises(FhirError) as refused:
        route(method, path, TYPES)
    assert refused.value.status == status


def test_a_refused_method_names_the_allowed_ones():
    with pytest.raises(FhirError) as refused:
        route("POST", "Patient/1", TYPES)
    assert dict(refused.value.headers)["Allow"] == "GET, HEAD, PUT, DELETE, PATCH, OPTIONS"
